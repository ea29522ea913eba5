"""Measures one checkpoint outside training; what is already known about it is not measured again."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from torch import nn

from framework.data.points import Vector
from framework.evaluation.evaluate import evaluate
from framework.evaluation.generated import GeneratedSamples
from framework.evaluation.images import (
    SampleSet,
    ShardImages,
    StoredField,
    notes_on,
    open_images,
)
from framework.evaluation.journal import write_to_run
from framework.evaluation.metrics.base import Metric, Settings
from framework.evaluation.models import EvaluationModels
from framework.evaluation.plan import EvaluationPlan
from framework.evaluation.protocol import Record, read_records, write_records
from framework.runtime.collectives import together
from framework.runtime.session import Session
from framework.sampling.generate import settle_statistics, style_options
from framework.sampling.load import LoadedGenerator, load_generator
from framework.sampling.sampler import LatentSampler, Sampler
from framework.sampling.stored import StoredSamples
from framework.sampling.translation import TranslationSampler
from framework.utils.errors import FrameworkError


@dataclass(frozen=True, kw_only=True)
class Sampling:
    """Settings by which a checkpoint's images are drawn.

    Attributes:
        averaged: draw from the moving average of the weights, or from the last ones.
        seed: seed of latents and labels.
        psi: truncation of a style-based generator.
        truncation: largest latent entry.
        standing_statistics: number of batches over which batch-norm statistics are computed again; 0: not at all.
        sampler: draws the samples; None: pictures from latents, with the seed and the truncations above.
    """

    averaged: bool = True
    seed: int = 0
    psi: float | None = None
    truncation: float | None = None
    standing_statistics: int = 0
    sampler: Sampler | None = None
    classes: Mapping[str, type[nn.Module]] = field(default_factory=dict)
    """Network classes from outside the framework that may be built, by name; see `load_generator`."""

    def at(self, psi: float | None, truncation: float | None) -> Sampling:
        """Return the same settings at another truncation."""
        return replace(self, psi=psi, truncation=truncation)


def evaluate_checkpoint(
    checkpoint: str,
    real: str | None,
    *,
    metrics: Sequence[Metric],
    models: EvaluationModels,
    session: Session,
    sampling: Sampling,
    settings: Settings,
    reference_count: int | None = None,
    cache_folder: Path | None = None,
    tracking_uri: str | None = None,
    record: bool = True,
    progress: bool = False,
) -> tuple[list[Record], list[str]]:
    """Measure a checkpoint; return its records, the same on every rank, and sentences for the user. A collective.

    Args:
        checkpoint: checkpoint or run folder, or `runs:/...`.
        real: location of the real images; None if no metric needs them.
        sampling: how images are drawn.
        record: read and write the records beside the checkpoint, and the run's journal.
        progress: show on standard error how far it is.

    Raises:
        FrameworkError: the checkpoint or the data cannot be read, on any rank.
    """
    loaded = _loaded(checkpoint, sampling, session, tracking_uri)
    images, reference = _sets(loaded, real, sampling, progress=progress and session.is_main)
    plan = EvaluationPlan(
        samples=images,
        reference=reference,
        metrics=metrics,
        models=models,
        settings=settings,
        reference_count=reference_count,
    )

    # A checkpoint that was downloaded is gone afterwards: there is nothing to keep records beside.
    record = record and not loaded.downloaded
    known = _known(loaded.path, session) if record else {}
    done = _already_measured(plan, known)
    todo = [metric for metric in metrics if metric not in done]
    subject = {"checkpoint": checkpoint if loaded.downloaded else str(loaded.path), "images_seen": loaded.images_seen}
    rest = replace(plan, metrics=todo)
    measured = _measure(rest, session, cache_folder, subject, progress=progress) if todo else []

    records = [r for metric in metrics for r in done.get(metric) or _of(metric, measured, plan)]
    note = _keep(loaded, measured, records) if record and session.is_main else None
    return records, [*notes_on(reference), *([note] if note else [])]


def _loaded(checkpoint: str, sampling: Sampling, session: Session, tracking_uri: str | None) -> LoadedGenerator:
    """Load the generator on every rank, or fail on every rank."""
    with together(session, doing=f"to load {checkpoint}"):
        return load_generator(
            checkpoint,
            device=str(session.device),
            averaged=sampling.averaged,
            classes=sampling.classes,
            tracking_uri=tracking_uri,
        )


def _measure(
    plan: EvaluationPlan, session: Session, cache_folder: Path | None, subject: Mapping[str, Any], *, progress: bool
) -> list[Record]:
    return evaluate(
        plan.samples,
        plan.reference,
        metrics=plan.metrics,
        models=plan.models,
        session=session,
        settings=plan.settings,
        reference_count=plan.reference_count,
        cache_folder=cache_folder,
        subject=subject,
        progress=progress,
    )


def _sets(
    loaded: LoadedGenerator, real: str | None, sampling: Sampling, *, progress: bool
) -> tuple[GeneratedSamples, SampleSet | None]:
    """Return the generator's samples, and the real set at their resolution; classes have the real set's shares."""
    samples = generated(loaded, sampling, real, progress=progress)
    reference = None if real is None else _reference(real, samples)
    if isinstance(reference, ShardImages) and isinstance(samples.sampler, LatentSampler):
        samples = replace(samples, sampler=samples.sampler.with_shares(reference.label_counts))
    return samples, reference


def _already_measured(plan: EvaluationPlan, known: Mapping[str, Record]) -> dict[Metric, list[Record]]:
    """Return the known records of each metric of which every output is known under the same protocol."""
    planned = {metric: plan.keys(metric) for metric in plan.metrics}
    return {metric: [known[key] for key in keys] for metric, keys in planned.items() if all(k in known for k in keys)}


def _keep(loaded: LoadedGenerator, measured: Sequence[Record], records: Sequence[Record]) -> str | None:
    """Write what was measured beside the checkpoint and into its run; return a sentence for the user if that failed.

    A checkpoint of another account, or on a full disk, is measured all the same.
    """
    try:
        write_records(loaded.path, measured)
        return write_to_run(loaded.path, records, images_seen=loaded.images_seen)
    except (FrameworkError, OSError) as error:
        return f"measured, but not kept with the checkpoint: {error}"


def _known(checkpoint: Path, session: Session) -> dict[str, Record]:
    """Return the records beside a checkpoint as rank 0 sees them: the ranks must agree on what is left to do."""
    text = ""
    with together(session, doing=f"to read the records of {checkpoint}"):
        if session.is_main:
            text = json.dumps({key: [r.name, r.to_json()] for key, r in read_records(checkpoint).items()})
    told = json.loads(session.broadcast_text(text))
    return {key: Record.from_json(name, data) for key, (name, data) in told.items()}


def generated(
    loaded: LoadedGenerator, sampling: Sampling, real: str | None, *, progress: bool = False
) -> GeneratedSamples:
    """Return the samples of a loaded generator; classes have equal shares.

    Args:
        real: location of the real set, whose pictures a translator translates.
        progress: show on standard error how far standing statistics are.
    """
    loaded.drawn.refuse_options_of_latents(
        standing_statistics=sampling.standing_statistics, truncation=sampling.truncation
    )
    options = style_options(loaded.network, psi=sampling.psi)
    if sampling.standing_statistics:
        settle_statistics(
            loaded.network,
            classes=loaded.classes,
            num_batches=sampling.standing_statistics,
            seed=sampling.seed,
            latents=loaded.drawn.latents,
            progress=progress,
        )
    sampler = sampling.sampler or loaded.drawn.sampler(
        classes=loaded.classes,
        seed=sampling.seed,
        held_out=_pairs(loaded, real),
        truncation=sampling.truncation,
        options=options,
    )
    samples = GeneratedSamples(
        network=loaded.network,
        sampler=sampler,
        weights="ema" if sampling.averaged else "live",
    )
    size = {"resolution": samples.picture_size()} if samples.picture else {}
    return replace(samples, notes={**size, "standing_statistics": sampling.standing_statistics})


def _pairs(loaded: LoadedGenerator, real: str | None) -> StoredSamples | None:
    """Open the pairs at a location for a network that translates; None for any other, or without a location."""
    if real is None or loaded.drawn.source is None or loaded.drawn.target is None:
        return None
    return StoredSamples(real, (loaded.drawn.source, loaded.drawn.target))


def _reference(location: str, samples: GeneratedSamples) -> SampleSet:
    """Open the real set at the generator's resolution; labels are read only where the generator has them too."""
    if isinstance(samples.sampler, TranslationSampler):
        return StoredField(samples.sampler.samples, samples.sampler.target.name)
    if samples.picture is None and isinstance(samples.sampler, LatentSampler):
        name = samples.sampler.vectors
        vectors = Vector(name, samples.draw(range(1))[name][0].numel())
        return StoredField(StoredSamples(location, (vectors,)), name)
    resolution = int(samples.notes["resolution"][0]) if samples.picture else None
    return open_images(location, resolution=resolution, classes=samples.classes)


def _of(metric: Metric, records: Sequence[Record], plan: EvaluationPlan) -> list[Record]:
    """Return those of the records that belong to a metric."""
    keys = set(plan.keys(metric))
    return [record for record in records if f"{record.name}-{record.protocol.hash}" in keys]
