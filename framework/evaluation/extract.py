"""One pass over a set of samples: what the metrics need of them, and no more.

Moments are streamed. Features themselves are kept only for metrics that compare images one by one (KID, precision,
recall, density, coverage, Inception Score), and only of the first `held` images; that bound is part of their protocol.
Metrics of sums (`SampleMetric`) see the samples themselves, of which nothing is kept.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field

import torch
from torch import Tensor

from framework.evaluation.accumulate import REAL, Accumulating, Sums
from framework.evaluation.errors import MissingError
from framework.evaluation.extractors.base import Extractor, lent
from framework.evaluation.images import Part, SampleSet
from framework.evaluation.moments import Moments
from framework.runtime.collectives import summed, together
from framework.runtime.session import Session
from framework.utils.progress import show_progress

MOST_BYTES_BY_CLASS = 4 << 30
"""Largest size in bytes of the moments of all classes on one rank."""


@dataclass(frozen=True, kw_only=True)
class Needs:
    """The request to one pass, as numbers of samples; 0 asks for nothing.

    Attributes:
        moments: numbers n such that the moments of the first n images are wanted.
        by_class: number of first images whose moments by class are wanted.
        held: number of first images whose features are kept.
        logits: number of first images whose logits are kept.
        sums: number of first samples that a metric accumulates, by metric.
    """

    moments: frozenset[int] = frozenset()
    by_class: int = 0
    held: int = 0
    logits: int = 0
    sums: Mapping[Accumulating, int] = field(default_factory=dict)

    def __or__(self, other: Needs) -> Needs:
        """Return the request that serves both."""
        return Needs(
            moments=self.moments | other.moments,
            by_class=max(self.by_class, other.by_class),
            held=max(self.held, other.held),
            logits=max(self.logits, other.logits),
            sums={**self.sums, **other.sums},
        )

    @property
    def num_extracted(self) -> int:
        """Number of images whose features must be computed."""
        return max((*self.moments, self.by_class, self.held, self.logits, 0))

    @property
    def count(self) -> int:
        """Number of samples that must be looked at."""
        return max((self.num_extracted, *self.sums.values()))


@dataclass(kw_only=True)
class Extract:
    """The result of a pass, the same on every rank.

    Attributes:
        moments: moments of the first n images, by n.
        by_class: moments of each class; a class without an image has count 0.
        features: (held, D) float32 on the host.
        logits: (n, classes) float32 on the host; None when the extractor has none.
        sums: what a metric has accumulated, float64 on the host, by metric.
        missing: the reason why a metric could not be accumulated, by metric.
    """

    moments: dict[int, Moments] = field(default_factory=dict)
    by_class: list[Moments] = field(default_factory=list)
    features: Tensor | None = None
    logits: Tensor | None = None
    sums: dict[Accumulating, dict[str, Tensor]] = field(default_factory=dict)
    missing: dict[Accumulating, str] = field(default_factory=dict)


def extract(
    samples: SampleSet,
    extractor: Extractor | None,
    needs: Needs,
    *,
    session: Session,
    real: SampleSet | None = None,
    shown_as: str = "",
) -> Extract:
    """Look at the first `needs.count` samples once, shared by the ranks. A collective.

    Args:
        samples: the set to look at.
        extractor: the network that computes features and logits; None where only sums are wanted.
        needs: what is wanted of the samples.
        real: the real set, for metrics of sums that look at both sets.
        shown_as: title under which rank 0 shows how far it is; empty shows nothing.

    Raises:
        FrameworkError: an image cannot be read, on any rank.
        MissingError: moments by class would not fit into memory, see `too_many_classes`.
    """
    found = _Shares(extractor, needs, samples.classes, session)
    if needs.count == 0:
        return Extract()
    comparing = [count for metric, count in needs.sums.items() if metric.compares_with_real]
    shown = show_progress(shown_as, total=needs.count, enabled=bool(shown_as) and session.is_main)
    network = lent(extractor.network, session.device) if extractor and needs.num_extracted else contextlib.nullcontext()
    with together(session, doing="to read their images"), network, shown as advance:
        share = {"rank": session.rank, "world": session.world}
        parts: Iterable[Part] = samples.parts(count=needs.count, **share)
        if comparing:
            assert real is not None
            parts = beside_real(parts, real.parts(count=max(comparing), **share))
        for part in parts:
            if part.start < needs.num_extracted:
                assert extractor is not None
                features, logits = extractor(part.images.to(session.device))
                found.add(part.start, features, logits, part.labels)
            for sums in found.sums:
                sums.add(part.start, part.samples)
            advance(part.size * session.world)
    return found.over_ranks()


def beside_real(parts: Iterable[Part], real: Iterator[Part]) -> Iterator[Part]:
    """Yield the parts with the real samples of the same positions beside the judged ones, as long as there are any.

    Args:
        parts: this rank's parts of the judged set.
        real: this rank's parts of the real set, in the same batches; a judged batch may be cut further.
    """
    other: Part | None = next(real, None)
    for part in parts:
        while other is not None and other.start + other.size <= part.start:
            other = next(real, None)
        if other is None:
            yield part
            continue
        rows = slice(part.start - other.start, part.start - other.start + part.size)
        beside = {REAL + name: tensor[rows] for name, tensor in other.samples.items()}
        yield part._replace(samples={**part.samples, **beside})


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

    def __init__(self, extractor: Extractor | None, needs: Needs, classes: int, session: Session) -> None:
        self._needs, self._session, dim = needs, session, extractor.dim if extractor else 0
        self.sums = [Sums(metric, count) for metric, count in needs.sums.items()]
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
        accumulated = {sums.metric: sums.over_ranks(session) for sums in self.sums}
        return Extract(
            sums={metric: found for metric, (found, missing) in accumulated.items() if missing is None},
            missing={metric: missing for metric, (_, missing) in accumulated.items() if missing is not None},
            moments={count: moments.over_ranks(session) for count, moments in self._moments.items()},
            by_class=[moments.over_ranks(session) for moments in self._by_class],
            # Each row is one rank's and zero elsewhere.
            features=None if self._features is None else summed(session, self._features),
            logits=None if self._logits is None else summed(session, self._logits),
        )


def _put(rows: Tensor, start: int, values: Tensor) -> None:
    kept = values[: max(0, len(rows) - start)].cpu()
    rows[start : start + len(kept)] = kept
