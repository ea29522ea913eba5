"""One pass over a set of images: what the metrics need of its features, and no more.

Moments are streamed. Features themselves are kept only for metrics that compare images one by one (KID, precision,
recall, density, coverage, Inception Score), and only of the first `held` images; that bound is part of their protocol.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import torch
from torch import Tensor

from framework.evaluation.errors import MissingError
from framework.evaluation.extractors.base import Extractor, lent
from framework.evaluation.frechet import Moments
from framework.evaluation.images import ImageSet
from framework.runtime.collectives import summed, together
from framework.runtime.session import Session
from framework.utils.progress import show_progress

MOST_BYTES_BY_CLASS = 4 << 30
"""Largest size in bytes of the moments of all classes on one rank."""


@dataclass(frozen=True, kw_only=True)
class Needs:
    """The request to one pass, as numbers of images; 0 asks for nothing.

    Attributes:
        moments: numbers n such that the moments of the first n images are wanted.
        by_class: number of first images whose moments by class are wanted.
        held: number of first images whose features are kept.
        logits: number of first images whose logits are kept.
    """

    moments: frozenset[int] = frozenset()
    by_class: int = 0
    held: int = 0
    logits: int = 0

    @property
    def count(self) -> int:
        """Number of images that must be looked at."""
        return max((*self.moments, self.by_class, self.held, self.logits, 0))


@dataclass(kw_only=True)
class Extract:
    """The result of a pass, the same on every rank.

    Attributes:
        moments: moments of the first n images, by n.
        by_class: moments of each class; a class without an image has count 0.
        features: (held, D) float32 on the host.
        logits: (n, classes) float32 on the host; None when the extractor has none.
    """

    moments: dict[int, Moments] = field(default_factory=dict)
    by_class: list[Moments] = field(default_factory=list)
    features: Tensor | None = None
    logits: Tensor | None = None


def extract(images: ImageSet, extractor: Extractor, needs: Needs, *, session: Session, shown_as: str = "") -> Extract:
    """Look at the first `needs.count` images once, shared by the ranks. A collective.

    Args:
        images: the set to look at.
        extractor: the network that computes features and logits.
        needs: what is wanted of the images.
        shown_as: title under which rank 0 shows how far it is; empty shows nothing.

    Raises:
        FrameworkError: an image cannot be read, on any rank.
        MissingError: moments by class would not fit into memory, see `too_many_classes`.
    """
    found = _Shares(extractor, needs, images.classes, session)
    if needs.count == 0:
        return Extract()
    shown = show_progress(shown_as, total=needs.count, enabled=bool(shown_as) and session.is_main)
    with together(session, doing="to read their images"), lent(extractor.network, session.device), shown as advance:
        for part in images.parts(count=needs.count, rank=session.rank, world=session.world):
            features, logits = extractor(part.images.to(session.device))
            found.add(part.start, features, logits, part.labels)
            advance(len(part.images) * session.world)
    return found.over_ranks()


def too_many_classes(classes: int, dim: int) -> str | None:
    """Return the reason why moments by class do not fit into memory; None when they do."""
    need = classes * dim * dim * 8
    if need <= MOST_BYTES_BY_CLASS:
        return None
    return (
        f"moments of {classes} classes of {dim} features need {need / 2**30:.0f} GiB on every rank, the bound is "
        f"{MOST_BYTES_BY_CLASS / 2**30:.0f} GiB; use an extractor with fewer features"
    )


class _Shares:
    """The sums and rows that one rank has collected."""

    def __init__(self, extractor: Extractor, needs: Needs, classes: int, session: Session) -> None:
        self._needs, self._session, dim = needs, session, extractor.dim
        self._moments = {count: Moments.zeros(dim, device=session.device) for count in sorted(needs.moments)}
        wanted = classes if needs.by_class else 0
        if why := too_many_classes(wanted, dim):
            raise MissingError(why)
        self._by_class = [Moments.zeros(dim) for _ in range(wanted)]
        self._features = torch.zeros(needs.held, dim) if needs.held else None
        self._logits: Tensor | None = None

    def add(self, start: int, features: Tensor, logits: Tensor | None, labels: Tensor) -> None:
        """Take in a batch whose first image has position `start`.

        Args:
            features: (n, D) float32.
            logits: (n, classes) float32, or None.
            labels: (n,) int64.
        """
        for count, moments in self._moments.items():
            moments.add(features[: max(0, count - start)])
        for label in labels[: max(0, self._needs.by_class - start)].unique().tolist() if self._by_class else ():
            rows = (labels == label)[: max(0, self._needs.by_class - start)].nonzero().flatten()
            self._by_class[label].add(features[rows.to(features.device)])
        if self._features is not None:
            _put(self._features, start, features)
        if self._needs.logits and logits is not None:
            if self._logits is None:
                self._logits = torch.zeros(self._needs.logits, logits.shape[1])
            _put(self._logits, start, logits)

    def over_ranks(self) -> Extract:
        """Return what all ranks have collected together. A collective."""
        session = self._session
        if self._needs.logits:
            # A rank without a batch does not know how many there are.
            width = int(session.max_over_ranks(0.0 if self._logits is None else float(self._logits.shape[1])))
            if width and self._logits is None:
                self._logits = torch.zeros(self._needs.logits, width)
        return Extract(
            moments={count: moments.over_ranks(session) for count, moments in self._moments.items()},
            by_class=[moments.over_ranks(session) for moments in self._by_class],
            # Each row is one rank's and zero elsewhere.
            features=None if self._features is None else summed(session, self._features),
            logits=None if self._logits is None else summed(session, self._logits),
        )


def _put(rows: Tensor, start: int, values: Tensor) -> None:
    kept = values[: max(0, len(rows) - start)].cpu()
    rows[start : start + len(kept)] = kept
