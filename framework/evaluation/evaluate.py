"""One evaluation: samples against a reference, several metrics from one pass, each with its protocol.

It is safe inside a training run: nothing that training computes later changes (`undisturbed`), networks for metrics
leave the device afterwards, every rank takes its share, and a metric that cannot be computed gives a missing record,
not an exception.
"""

from __future__ import annotations

import functools
import operator
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from framework.evaluation.errors import MissingError
from framework.evaluation.extract import Extract, Needs, extract
from framework.evaluation.generated import GeneratedSamples, undisturbed
from framework.evaluation.images import SampleSet
from framework.evaluation.metrics.base import Measured, Metric, MetricInputs, Settings
from framework.evaluation.models import EvaluationModels
from framework.evaluation.plan import EvaluationPlan
from framework.evaluation.protocol import Record
from framework.evaluation.statistics import real_statistics
from framework.evaluation.weights import default_cache_folder
from framework.runtime.session import Session


def evaluate(
    samples: SampleSet,
    reference: SampleSet | None,
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
    """Measure samples and return the records of the metrics, the same on every rank. A collective.

    Args:
        samples: what is judged: a folder, shards, or `GeneratedSamples`.
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
        samples=samples,
        reference=reference,
        metrics=metrics,
        models=models,
        settings=settings or Settings(),
        reference_count=reference_count,
    )
    networks = [samples.network] if isinstance(samples, GeneratedSamples) else []
    with undisturbed(*networks):
        work = _Work(plan, session, progress=progress)
        return work.records(cache_folder or default_cache_folder(), subject=plan.subject | dict(subject or {}))


class _Work:
    """An evaluation under way, with what its passes over the samples have found."""

    def __init__(self, plan: EvaluationPlan, session: Session, *, progress: bool) -> None:
        self.plan, self.session, self.progress = plan, session, progress
        self.judged, self.real, self.seconds = Extract(), Extract(), 0.0

    def records(self, cache_folder: Path, *, subject: Mapping[str, Any]) -> list[Record]:
        """Look at the samples once and return a record for every output of every metric, missing ones included."""
        # Metrics that cannot be computed must not cost a pass over the samples.
        obstacles = {metric: self.plan.obstacle(metric) for metric in self.plan.metrics}
        self.look([metric for metric, reason in obstacles.items() if reason is None], cache_folder)

        # A metric that still finds too few images must not cost the others their values.
        found: list[Record] = []
        for metric, reason in obstacles.items():
            begun, measured = time.monotonic(), dict[str, Measured]()
            try:
                if reason is None:
                    measured = metric.measure(self.inputs(metric))
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
        """Pass once over each set of samples, for all metrics together."""
        plan, extractor = self.plan, self.plan.models.extractor

        # The real set first: its statistics are mostly in the cache.
        if plan.reference is not None and extractor is not None:
            wanted = [metric.real_needs(count=plan.real_count, settings=plan.settings) for metric in metrics]
            self.real = real_statistics(
                plan.reference,
                extractor,
                functools.reduce(operator.or_, wanted, Needs()),
                session=self.session,
                cache_folder=cache_folder,
                shown_as="real images" if self.progress else "",
            )

        # The judged samples are always looked at, and timed.
        begun = time.monotonic()
        wanted = [metric.needs(count=plan.count(metric), settings=plan.settings) for metric in metrics]
        self.judged = extract(
            plan.samples,
            extractor,
            functools.reduce(operator.or_, wanted, Needs()),
            session=self.session,
            real=plan.reference,
            shown_as="judged images" if self.progress else "",
        )
        self.seconds = time.monotonic() - begun

    def inputs(self, metric: Metric) -> MetricInputs:
        """Return what a metric computes its values from."""
        plan = self.plan
        return MetricInputs(
            samples=plan.samples,
            judged=self.judged,
            real=self.real,
            count=plan.count(metric),
            real_count=plan.real_count,
            lpips=plan.models.lpips.network if plan.models.lpips else None,
            settings=plan.settings,
            session=self.session,
            reference=plan.reference,
            shown_as=metric.name if self.progress else "",
        )
