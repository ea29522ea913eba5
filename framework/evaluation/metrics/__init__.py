"""The metrics, one class each, and how they are named."""

from framework.evaluation.metrics.base import FeatureMetric, Measured, Metric, MetricInputs, Settings
from framework.evaluation.metrics.earth_movers import EarthMoversDistance
from framework.evaluation.metrics.modes import ModesHit, ModesKL
from framework.evaluation.metrics.names import USUAL, check_extractor, checked_metrics, parse_metrics
from framework.evaluation.metrics.paired import PairedL1
from framework.evaluation.metrics.sample import SampleMetric
from framework.evaluation.metrics.stacked import StackedModes

__all__ = [
    "USUAL",
    "EarthMoversDistance",
    "FeatureMetric",
    "Measured",
    "Metric",
    "MetricInputs",
    "ModesHit",
    "ModesKL",
    "PairedL1",
    "SampleMetric",
    "Settings",
    "StackedModes",
    "check_extractor",
    "checked_metrics",
    "parse_metrics",
]
