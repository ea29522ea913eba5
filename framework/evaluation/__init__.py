"""Metrics of generated images, each with the protocol that is part of its number.

metrics = parse_metrics("fid50k,kid,pr")
models = open_models(metrics, session=session)
records = evaluate(GeneratedImages(network=generator), open_images("/data/faces"), metrics=metrics, models=models,
                   session=session)
"""

from framework.evaluation.errors import EvaluationError, MissingError
from framework.evaluation.evaluate import evaluate
from framework.evaluation.generated import GeneratedImages
from framework.evaluation.images import ImageSet, open_images
from framework.evaluation.metrics import Metric, Settings, parse_metrics
from framework.evaluation.models import EvaluationModels, open_models
from framework.evaluation.protocol import Comparison, Protocol, Record, comparable

__all__ = [
    "Comparison",
    "EvaluationError",
    "EvaluationModels",
    "GeneratedImages",
    "ImageSet",
    "Metric",
    "MissingError",
    "Protocol",
    "Record",
    "Settings",
    "comparable",
    "evaluate",
    "open_images",
    "open_models",
    "parse_metrics",
]
