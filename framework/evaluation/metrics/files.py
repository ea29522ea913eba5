"""Metrics in files that the user names: `--metric my_metric.py:ModesHit`.

The name is that of a class, of a metric with its constants, or of a recipe, which stands for its metrics.
"""

from __future__ import annotations

import inspect
from collections.abc import Iterable
from typing import Any

from framework.evaluation.errors import EvaluationError
from framework.evaluation.metrics.base import Metric
from framework.evaluation.metrics.names import checked_metrics
from framework.utils.importing import named_in_file
from framework.utils.suggest import nearest


def metrics_in_files(places: Iterable[str]) -> list[Metric]:
    """Return the metrics at `FILE.py:NAME`, where NAME is a class whose fields have defaults, a metric, or a recipe.

    Raises:
        FrameworkError: there is no such file or metric, a file cannot be imported, or the metric cannot be asked for.
    """
    found: list[Metric] = []
    for place in places:
        example = "FILE.py:CLASS, for example my_metric.py:ModesHit"
        module, name = named_in_file(place, flag="--metric", example=example)
        held = {n: value for n, value in vars(module).items() if _is_metric(value) or _metrics_of(value)}
        if name not in held:
            has = ", ".join(sorted(held)) or "none"
            raise EvaluationError(f"--metric {place}: the file has no such metric{nearest(name, held)}. It has: {has}")
        found += _metrics_of(held[name]) or [_made(held[name], place)]
    return checked_metrics(found, place="--metric")


def _is_metric(value: object) -> bool:
    of_class = isinstance(value, type) and issubclass(value, Metric) and not inspect.isabstract(value)
    return isinstance(value, Metric) or of_class


def _metrics_of(value: object) -> list[Metric]:
    """Return the metrics of a recipe; none of anything else."""
    metrics = () if isinstance(value, type) else getattr(value, "metrics", ())
    return list(metrics) if isinstance(metrics, tuple) and all(map(_is_metric, metrics)) else []


def _made(held: Any, place: str) -> Metric:
    """Return a metric as it is, or one of its class with the defaults of its fields."""
    if not isinstance(held, type):
        return held
    try:
        return held()
    except TypeError as error:
        what = f"give every field of {held.__name__} a default, or name a metric that the file makes of it"
        raise EvaluationError(f"--metric {place}: {what} ({error})") from None
