"""The metrics, one class each, and how they are named."""

from framework.evaluation.metrics.base import FeatureMetric, Measured, Metric, MetricInputs, Settings
from framework.evaluation.metrics.modes import ModesHit
from framework.evaluation.metrics.names import USUAL, check_extractor, checked_metrics, parse_metrics
from framework.evaluation.metrics.paired import PairedL1
from framework.evaluation.metrics.sample import SampleMetric

__all__ = [
    "USUAL",
    "FeatureMetric",
    "Measured",
    "Metric",
    "MetricInputs",
    "ModesHit",
    "PairedL1",
    "SampleMetric",
    "Settings",
    "check_extractor",
    "checked_metrics",
    "parse_metrics",
]
