"""The networks that metrics compute with; a missing one is remembered with its reason instead of raised."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from framework.evaluation.errors import MissingError
from framework.evaluation.extractors.base import INCEPTION, Extractor
from framework.evaluation.extractors.choose import open_extractor
from framework.evaluation.extractors.lpips import Perceptual, open_lpips
from framework.evaluation.metrics.base import Metric
from framework.evaluation.metrics.names import check_extractor
from framework.runtime.session import Session


@dataclass(frozen=True, kw_only=True)
class EvaluationModels:
    """The networks of metrics.

    Attributes:
        extractor_name: the one that was asked for, whether or not it is there.
        extractor: None when it is missing, or no metric needs it.
        lpips: None when it is missing, or no metric needs it.
        missing: the reason why `extractor` or `lpips` is not there, by that word.
    """

    extractor_name: str = INCEPTION
    extractor: Extractor | None = None
    lpips: Perceptual | None = None
    missing: Mapping[str, str] = field(default_factory=dict)


def open_models(
    metrics: list[Metric],
    *,
    session: Session,
    extractor: str = INCEPTION,
    weights: Path | None = None,
    lpips_weights: Path | None = None,
    cache_folder: Path | None = None,
) -> EvaluationModels:
    """Open the networks that these metrics need. A collective.

    A download that fails is no error: the metrics that need it are marked missing, and training goes on.

    Args:
        extractor: name of the extractor, see `framework.evaluation.extractors.choose`.
        weights: file of the extractor's weights; None takes packaged, cached or downloaded ones.
        lpips_weights: file of the weights of LPIPS.
        cache_folder: folder of downloads.

    Raises:
        FrameworkError: a file that was given cannot be used, or a metric's name does not fit the extractor.
    """
    missing: dict[str, str] = {}
    network, lpips = None, None
    if any(metric.model == "extractor" for metric in metrics):
        try:
            network = open_extractor(extractor, weights=weights, session=session, cache_folder=cache_folder)
        except MissingError as error:
            missing["extractor"] = str(error)
        check_extractor(metrics, network)
    if any(metric.model == "lpips" for metric in metrics):
        try:
            lpips = open_lpips(lpips_weights, session=session)
        except MissingError as error:
            missing["lpips"] = str(error)
    return EvaluationModels(extractor_name=extractor, extractor=network, lpips=lpips, missing=missing)
