"""Sentinels: cheap signals that training is collapsing, judged at every tick, with a reason and the usual remedy.

watch = SentinelStates(SENTINELS, total_images=recipe.images, step_images=recipe.batch_size)
changes = watch.observe(images, signals(scores, ...))      # alerts that became better or worse
watch.health, watch.onset_images                           # ok | warn | failing, and when the trouble began
"""

from framework.sentinels.alerts import Alert, SentinelStates
from framework.sentinels.diversity import diversity, spread
from framework.sentinels.signals import Baselines, signals
from framework.sentinels.table import SENTINELS, Health, Sentinel

__all__ = ["SENTINELS", "Alert", "Baselines", "Health", "Sentinel", "SentinelStates", "diversity", "signals", "spread"]
