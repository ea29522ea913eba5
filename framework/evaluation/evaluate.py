"""One evaluation: images against a reference, several metrics from one pass, each with its protocol.

It is safe inside a training run: nothing that training computes later changes (`undisturbed`), networks for metrics
leave the device afterwards, every rank takes its share, and a metric that cannot be computed gives a missing record,
not an exception.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from framework.evaluation.errors import MissingError
from framework.evaluation.extract import Extract, Needs, extract
from framework.evaluation.extractors.base import lent
from framework.evaluation.frechet import Moments, frechet_distance
from framework.evaluation.generated import GeneratedImages, undisturbed
from framework.evaluation.images import ImageSet
from framework.evaluation.inception_score import inception_score
from framework.evaluation.kernel import kernel_distance
from framework.evaluation.metrics import PERCEPTUAL, Metric, Settings
from framework.evaluation.models import EvaluationModels
from framework.evaluation.perceptual import diversity, path_length
from framework.evaluation.plan import EvaluationPlan
from framework.evaluation.precision_recall import density_coverage, precision_recall
from framework.evaluation.protocol import Record
from framework.evaluation.statistics import real_statistics
from framework.evaluation.weights import default_cache_folder
from framework.runtime.collectives import summed
from framework.runtime.session import Session
from framework.utils.progress import show_progress

_FRECHET, _BY_CLASS, _KERNEL = ("fid", "fd"), ("fid_by_class", "fd_by_class"), ("kid", "kd")


@dataclass(frozen=True, kw_only=True)
class Measured:
    """A value, and further facts for its record."""

    value: float
    details: Mapping[str, Any] = field(default_factory=dict)


def evaluate(
    images: ImageSet,
    reference: ImageSet | None,
    *,
    metrics: Sequence[Metric],
    models: EvaluationModels,
    session: Session,
    settings: Settings | None = None,
    reference_count: int | None = None,
    cache_folder: Path | None = None,
    subject: Mapping[str, Any] | None = None,
    progress: bool = False,
) -> list[Record]:
    """Measure images and return the records of the metrics, the same on every rank. A collective.

    Args:
        images: what is judged: a folder, shards, or `GeneratedImages`.
        reference: the real set; None if no metric needs one.
        metrics: see `parse_metrics`.
        models: see `open_models`; the same for every evaluation of a run.
        settings: constants of the definitions.
        reference_count: use the first so many real images; default all.
        cache_folder: of the real set's statistics; default `~/.cache/framework/evaluation`.
        subject: what is judged, for the records: checkpoint, images seen.
        progress: show on standard error how far it is.

    Raises:
        FrameworkError: images cannot be read. What only one metric lacks gives a missing record instead.
    """
    plan = EvaluationPlan(
        images=images,
        reference=reference,
        metrics=metrics,
        models=models,
        settings=settings or Settings(),
        reference_count=reference_count,
    )
    networks = [images.network] if isinstance(images, GeneratedImages) else []
    with undisturbed(*networks):
        work = _Work(plan, session, progress=progress)
        return work.records(cache_folder or default_cache_folder(), subject=plan.subject | dict(subject or {}))


class _Work:
    """An evaluation under way, with what its passes over the images have found."""

    def __init__(self, plan: EvaluationPlan, session: Session, *, progress: bool) -> None:
        self.plan, self.session, self.progress = plan, session, progress
        self.fake, self.real, self.seconds = Extract(), Extract(), 0.0

    def records(self, cache_folder: Path, *, subject: Mapping[str, Any]) -> list[Record]:
        """Look at the images once and return a record for every output of every metric, missing ones included."""
        # Metrics that cannot be computed must not cost a pass over the images.
        obstacles = {metric: self.plan.obstacle(metric) for metric in self.plan.metrics}
        self.look([metric for metric, reason in obstacles.items() if reason is None], cache_folder)

        # A metric that still finds too few images must not cost the others their values.
        found: list[Record] = []
        for metric, reason in obstacles.items():
            begun, measured = time.monotonic(), dict[str, Measured]()
            try:
                if reason is None:
                    measured = self.measure(metric)
            except MissingError as error:
                reason = str(error)
            cost = {"seconds": round(time.monotonic() - begun, 3), "extraction_seconds": round(self.seconds, 3)}
            cost |= {"ranks": self.session.world}
            for output, name in self.plan.names(metric).items():
                result = measured.get(output)
                found.append(
                    Record(
                        name=name,
                        value=None if result is None else result.value,
                        missing=reason,
                        protocol=self.plan.protocol(metric, output),
                        details={} if result is None else result.details,
                        subject=subject,
                        cost={**cost, "device": self.session.device.type},
                    )
                )
        return found

    def look(self, metrics: list[Metric], cache_folder: Path) -> None:
        """Pass once over each set of images, for all metrics together."""
        plan, extractor = self.plan, self.plan.models.extractor
        if extractor is None:
            return
        held, compared = plan.settings.held, (*_KERNEL, "pr", "dc")

        # The largest number of images that any metric of these kinds looks at.
        def most(kinds: tuple[str, ...], *, real: bool = False) -> int:
            counts = [plan.real_count if real else plan.count(m) for m in metrics if m.kind in kinds]
            return max(counts, default=0)

        # The real set first: its statistics are mostly in the cache.
        frechet = [metric for metric in metrics if metric.kind in _FRECHET]
        if plan.reference is not None:
            needs = Needs(
                moments=frozenset([plan.real_count] if frechet else []),
                by_class=most(_BY_CLASS, real=True),
                held=min(held, most(compared, real=True)),
            )
            self.real = real_statistics(
                plan.reference,
                extractor,
                needs,
                session=self.session,
                cache_folder=cache_folder,
                shown_as="real images" if self.progress else "",
            )

        # The judged images are always looked at, and timed.
        begun = time.monotonic()
        needs = Needs(
            moments=frozenset(plan.count(metric) for metric in frechet),
            by_class=most(_BY_CLASS),
            held=min(held, most(compared)),
            logits=min(held, most(("is",))),
        )
        shown_as = "judged images" if self.progress else ""
        self.fake = extract(plan.images, extractor, needs, session=self.session, shown_as=shown_as)
        self.seconds = time.monotonic() - begun

    def measure(self, metric: Metric) -> dict[str, Measured]:
        """Return the values of one metric by output.

        Raises:
            MissingError: the images or the weights that it needs are missing.
        """
        kind, settings = metric.kind, self.plan.settings
        count, (output, *_) = self.plan.count(metric), metric.definition.outputs

        # Metrics of moments, of pairs of images, and of logits need no features.
        if kind in _FRECHET:
            distances = self.frechet([(self.fake.moments[count], self.real.moments[self.plan.real_count])])
            return {output: Measured(value=float(distances))}
        if kind in _BY_CLASS:
            return {output: self.by_class(metric)}
        if kind in PERCEPTUAL:
            return {output: self.perceptual(metric)}
        if kind == "is":
            if self.fake.logits is None:
                raise MissingError("the Inception Score needs the classifier's weights (fc.weight), which end at pool3")
            mean, std = inception_score(self.fake.logits[:count], splits=settings.splits, seed=settings.seed)
            return {output: Measured(value=mean, details={"std": std})}

        # The rest compare features one by one.
        assert self.fake.features is not None
        assert self.real.features is not None
        fake, real = self.fake.features[:count], self.real.features
        common = self.common(metric)
        if kind in _KERNEL:
            subsets, size = settings.kid_subsets, settings.kid_subset_size
            found = kernel_distance(fake, real, subsets=subsets, subset_size=size, seed=settings.seed, **common)
            return {output: Measured(value=found.mean, details={"std": found.std, "subset_size": found.subset_size})}
        if kind == "pr":
            values = asdict(precision_recall(fake, real, neighbours=settings.neighbours, **common))
        else:
            values = asdict(density_coverage(fake, real, neighbours=settings.balls, **common))
        return {name: Measured(value=value) for name, value in values.items()}

    def common(self, metric: Metric) -> dict[str, Any]:
        """Return how every long comparison shares its work and shows how far it is."""
        return {"session": self.session, "shown_as": metric.kind if self.progress else ""}

    def frechet(self, pairs: Sequence[tuple[Moments, Moments]], *, shown_as: str = "") -> Tensor:
        """Return the Frechet distance of each pair, (len(pairs),) float64; the ranks share the work. A collective.

        Raises:
            MissingError: a side has fewer than 2 images.
        """
        found, shown = torch.zeros(len(pairs), dtype=torch.float64), bool(shown_as) and self.session.is_main
        with show_progress(shown_as, total=len(pairs), enabled=shown, unit="classes") as advance:
            for index, (a, b) in enumerate(pairs):
                if min(a.count, b.count) < 2:  # checked before the work is shared: every rank must come to the sum
                    raise MissingError(f"a covariance needs at least 2 images, there are {a.count} and {b.count}")
                if index % self.session.world == self.session.rank:
                    found[index] = frechet_distance(a, b)
                    advance(self.session.world)
        return summed(self.session, found)

    def by_class(self, metric: Metric) -> Measured:
        """Return the mean over classes of the Frechet distance; `details` holds the distance of each class."""
        shown_as = self.common(metric)["shown_as"]
        distances = self.frechet(list(zip(self.fake.by_class, self.real.by_class, strict=True)), shown_as=shown_as)
        fewest = [min(moments.count for moments in side) for side in (self.fake.by_class, self.real.by_class)]
        details = {"classes": distances.tolist(), "fewest_images": fewest[0], "fewest_real_images": fewest[1]}
        return Measured(value=float(distances.mean()), details=details)

    def perceptual(self, metric: Metric) -> Measured:
        """Return the path length or the LPIPS diversity, with its standard deviation in `details`."""
        lpips, count = self.plan.models.lpips, self.plan.count(metric)
        assert lpips is not None
        network, images = lpips.network, self.plan.images
        common = self.common(metric)
        with lent(network, self.session.device):
            if metric.kind == "ppl":
                epsilon = self.plan.settings.path_epsilon
                mean, std = path_length(images, network, count=count, epsilon=epsilon, **common)
            else:
                mean, std = diversity(images, network, count=count, **common)
        return Measured(value=mean, details={"std": std})
