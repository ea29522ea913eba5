"""Metrics of generated samples, each with the protocol that is part of its number.

metrics = parse_metrics("fid50k,kid,pr")
models = open_models(metrics, session=session)
records = evaluate(GeneratedSamples(network=generator), open_images("/data/faces"), metrics=metrics, models=models,
                   session=session)
"""

from framework.evaluation.errors import EvaluationError, MissingError
from framework.evaluation.evaluate import evaluate
from framework.evaluation.generated import GeneratedSamples
from framework.evaluation.images import SampleSet, open_images
from framework.evaluation.metrics import Metric, SampleMetric, Settings, parse_metrics
from framework.evaluation.models import EvaluationModels, open_models
from framework.evaluation.protocol import Comparison, Protocol, Record, comparable

__all__ = [
    "Comparison",
    "EvaluationError",
    "EvaluationModels",
    "GeneratedSamples",
    "Metric",
    "MissingError",
    "Protocol",
    "Record",
    "SampleMetric",
    "SampleSet",
    "Settings",
    "comparable",
    "evaluate",
    "open_images",
    "open_models",
    "parse_metrics",
]
