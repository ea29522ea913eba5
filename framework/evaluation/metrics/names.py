"""The metrics by name, as they are written on a command line.

    fid50k   kid   pr   dc   fid_by_class   is   ppl10k   lpips        with FID's Inception
    fd       kd    pr   dc   fd_by_class                               with any other extractor: never called FID
    paired_l1                                                          of translations, without an extractor

A count stands behind the name (`fid50k`, `kid10000`), after `_` where the name ends in a digit (`paired_l1_500`);
without one, all images of a folder are judged, 50,000 of a generator. Metrics of a recipe, or of a file that the user
names, are known by their `name`, too.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Sequence
from dataclasses import replace

from framework.evaluation.errors import EvaluationError
from framework.evaluation.extractors.base import Extractor
from framework.evaluation.metrics.base import FeatureMetric, Metric, Settings
from framework.evaluation.metrics.frechet import FID, FIDByClass, FrechetDistance, FrechetDistanceByClass
from framework.evaluation.metrics.inception_score import InceptionScore
from framework.evaluation.metrics.kernel import KID, KernelDistance
from framework.evaluation.metrics.paired import PairedL1
from framework.evaluation.metrics.perceptual import LPIPSDiversity, PathLength
from framework.evaluation.metrics.precision_recall import DensityCoverage, PrecisionRecall
from framework.evaluation.metrics.sample import SampleMetric
from framework.utils.ranges import LARGEST
from framework.utils.suggest import nearest

USUAL: tuple[Metric, ...] = (
    FID(),
    FrechetDistance(),
    FIDByClass(),
    FrechetDistanceByClass(),
    KID(),
    KernelDistance(),
    PrecisionRecall(),
    DensityCoverage(),
    InceptionScore(),
    PathLength(),
    LPIPSDiversity(),
    PairedL1(),
)
"""The metrics that need no more than their name; those with constants of their own come from recipes and files."""

_MULTIPLES = {"k": 1_000, "m": 1_000_000, None: 1}


def parse_metrics(text: str, *, own: Sequence[Metric] = ()) -> list[Metric]:
    """Parse a list such as `fid50k,kid,pr` and return its metrics, each once.

    Args:
        own: metrics besides the usual ones that may be named, see `checked_metrics`; they come first.

    Raises:
        EvaluationError: an unknown name (the nearest is named), a count below 2 or above 64 bits, or no name at all.
    """
    known = {metric.name: metric for metric in (*USUAL, *own)}
    found: dict[str, Metric] = {}
    for word in (word.strip().lower() for word in text.split(",") if word.strip()):
        named = [(metric, match) for name, metric in known.items() if (match := _counted(name).fullmatch(word))]
        if not named:
            raise EvaluationError(f"--metrics {word}: no such metric{nearest(word, known)}; known: {', '.join(known)}")
        metric, match = named[0]
        if match[1]:
            metric = replace(metric, count=int(match[1]) * _MULTIPLES[match[2]])
        if metric.count is not None and metric.count < 2:
            raise EvaluationError(f"--metrics {word}: at least 2 images")
        if metric.count is not None and metric.count > LARGEST:
            raise EvaluationError(f"--metrics {word}: so many images do not exist")
        found[word] = metric
    if not found:
        raise EvaluationError(f"--metrics: name at least one of {', '.join(known)}")
    return list(found.values())


def _counted(name: str) -> re.Pattern[str]:
    """Return the pattern of a metric's name with or without a count behind it."""
    apart = "_" if name[-1].isdigit() else ""
    return re.compile(rf"{re.escape(name)}(?:{apart}([0-9]{{1,18}})(k|m)?)?")


def checked_metrics(held: Iterable[object], *, place: str) -> list[Metric]:
    """Return metrics that a recipe or a user's file holds, after making sure that they can be asked for and recorded.

    Args:
        place: where they are from, for the messages.

    Raises:
        EvaluationError: something that is no metric; a name that cannot stand in a list; two of one name; or fields
            that cannot be hashed or written as JSON. Also one that lacks its definition or the names of its tensors.
    """
    found: dict[str, Metric] = {}
    for metric in held:
        if not isinstance(metric, Metric):
            raise EvaluationError(f"{place}: {metric!r} is no metric, which has the base class SampleMetric")
        kind = type(metric).__name__
        for name in (getattr(metric, "name", None), *(metric.outputs if hasattr(metric, "name") else ())):
            if not isinstance(name, str) or not re.fullmatch("[a-z][a-z0-9_]*", name):
                raise EvaluationError(f"{place}: {kind} has the name {name!r}; use small letters, digits and _")
        if isinstance(metric, SampleMetric) and not isinstance(getattr(metric, "samples", None), tuple):
            raise EvaluationError(f'{place}: {kind} must name the tensors it looks at: samples = ("image",)')
        if not isinstance(getattr(metric, "definition", None), str):
            raise EvaluationError(f"{place}: {kind} has no definition: one sentence on how the value comes about")
        if metric.name in found:
            raise EvaluationError(f"{place}: two metrics are named {metric.name}; give one of them another name")
        try:
            hash(metric)
            json.dumps(metric.options(Settings()), allow_nan=False)
        except (TypeError, ValueError) as error:
            raise EvaluationError(
                f"{place}: {kind} may have fields of numbers, texts and tuples only ({error})"
            ) from None
        found[metric.name] = metric
    return list(found.values())


def check_extractor(metrics: Sequence[Metric], extractor: Extractor | None) -> None:
    """Refuse metrics whose names promise another extractor than the one in use.

    Raises:
        EvaluationError: FID without Inception, or the reverse.
    """
    if extractor is None:
        return
    for metric in metrics:
        if not isinstance(metric, FeatureMetric):
            continue
        if metric.inception is True and not extractor.is_inception:
            hint = f"; ask for {metric.counterpart}" if metric.counterpart else ""
            name = extractor.identity.name
            raise EvaluationError(f"--metrics {metric.name} is defined by FID's Inception, not {name}{hint}")
        if metric.inception is False and extractor.is_inception:
            raise EvaluationError(f"--metrics {metric.name}: with FID's Inception it is called {metric.counterpart}")
