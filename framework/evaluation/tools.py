"""What an evaluation computes with; what is not to be had is remembered with its reason instead of raised."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from framework.evaluation.errors import MissingError
from framework.evaluation.extractors.base import INCEPTION, Extractor
from framework.evaluation.extractors.choose import open_extractor
from framework.evaluation.extractors.lpips import Perceptual, open_lpips
from framework.evaluation.metrics import PERCEPTUAL, Metric, check_extractor
from framework.runtime.session import Session


@dataclass(frozen=True, kw_only=True)
class Tools:
    """Networks for metrics.

    Attributes:
        extractor_name: the one that was asked for, whether or not it is there.
        extractor: None when it is missing, or no metric needs it.
        lpips: None when it is missing, or no metric needs it.
        missing: `extractor` or `lpips` -> why it is not there.
    """

    extractor_name: str = INCEPTION
    extractor: Extractor | None = None
    lpips: Perceptual | None = None
    missing: Mapping[str, str] = field(default_factory=dict)


def open_tools(
    metrics: list[Metric],
    *,
    session: Session,
    extractor: str = INCEPTION,
    weights: Path | None = None,
    lpips_weights: Path | None = None,
    cache_folder: Path | None = None,
) -> Tools:
    """Open what these metrics need. A collective.

    A download that fails is no error: the metrics that need it will be marked missing, and training goes on.

    Args:
        extractor: see `framework.evaluation.extractors.choose`.
        weights: of the extractor; None: packaged, cached, or downloaded.
        lpips_weights: of LPIPS.
        cache_folder: of downloads.

    Raises:
        FrameworkError: a file that was given cannot be used, or a metric's name does not fit the extractor.
    """
    missing: dict[str, str] = {}
    network, lpips = None, None
    if any(metric.kind not in PERCEPTUAL for metric in metrics):
        try:
            network = open_extractor(extractor, weights=weights, session=session, cache_folder=cache_folder)
        except MissingError as error:
            missing["extractor"] = str(error)
        check_extractor(metrics, network)
    if any(metric.kind in PERCEPTUAL for metric in metrics):
        try:
            lpips = open_lpips(lpips_weights, session=session)
        except MissingError as error:
            missing["lpips"] = str(error)
    return Tools(extractor_name=extractor, extractor=network, lpips=lpips, missing=missing)
