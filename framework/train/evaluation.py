"""Measure the averaged generator, against the training data where a metric compares, while a run trains.

Metrics and protocols are those by which `framework evaluate` measures the checkpoint of the same clock, and the records
are kept beside that checkpoint. Training goes on to the bit as it would without an evaluation. What cannot be measured
is marked missing and reported once; it never ends a run. Each batch shows the watchdog that there is progress.
"""

from __future__ import annotations

import json
import logging
import re
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from framework.checkpoint import Checkpoint
from framework.engines.ema import EMA
from framework.evaluation.evaluate import evaluate
from framework.evaluation.generated import GeneratedSamples, undisturbed
from framework.evaluation.images import Part, SampleSet, ShardImages, StoredField
from framework.evaluation.journal import protocol_tags
from framework.evaluation.metrics.base import Metric, Settings
from framework.evaluation.models import EvaluationModels, open_models
from framework.evaluation.plan import EvaluationPlan
from framework.evaluation.protocol import Record, read_records, write_records
from framework.games.base import Game
from framework.runtime.collectives import together
from framework.runtime.memory import release_unused
from framework.runtime.session import Session
from framework.runtime.watchdog import Progress
from framework.sampling.sampler import LatentSampler, Sampler
from framework.sampling.stored import StoredSamples
from framework.tracking import NullTracker, Tracker
from framework.train.console import Status
from framework.train.folder import RunContext
from framework.train.metric_history import MetricHistory
from framework.train.samples import averaged
from framework.train.sources import stored_samples
from framework.utils.errors import FrameworkError
from framework.utils.quantities import format_count

SEED = 0
"""The seed of latents and labels, that of `framework evaluate`, so that runs of different seeds are measured alike."""


@dataclass(frozen=True, kw_only=True)
class WatchedGenerator(GeneratedSamples):
    """Generated samples, each batch of which calls `beat`."""

    beat: Callable[[], None]

    def draw(self, positions: range) -> dict[str, Tensor]:
        """Draw the samples at these positions, see `GeneratedSamples`."""
        self.beat()
        return super().draw(positions)


class WatchedShards(ShardImages):
    """The training data in the fixed order of evaluations, each part of which calls `beat`."""

    def __init__(self, location: str, *, beat: Callable[[], None], **options: Any) -> None:
        self._beat = beat
        super().__init__(location, **options)

    def parts(self, *, count: int, rank: int, world: int) -> Iterator[Part]:
        """Yield this process's part of `count` images, see `SampleSet`."""
        return _beating(super().parts(count=count, rank=rank, world=world), self._beat)


class WatchedField(StoredField):
    """A field of the training data, each part of which calls `beat`."""

    def __init__(self, samples: StoredSamples, name: str, *, beat: Callable[[], None]) -> None:
        self._beat = beat
        super().__init__(samples, name)

    def parts(self, *, count: int, rank: int, world: int) -> Iterator[Part]:
        """Yield this process's part of `count` samples, see `SampleSet`."""
        return _beating(super().parts(count=count, rank=rank, world=world), self._beat)


def _beating(parts: Iterator[Part], beat: Callable[[], None]) -> Iterator[Part]:
    """Yield parts, and call `beat` before each."""
    for part in parts:
        beat()
        yield part


def watched_generator(
    network: nn.Module,
    *,
    sampler: Sampler,
    beat: Callable[[], None],
    resolution: int = 0,
    real: SampleSet | None = None,
) -> WatchedGenerator:
    """Return a generator's samples as `framework evaluate` draws them by default; the protocol is the same.

    Args:
        network: the generator in eval mode, with the average.
        sampler: draws them.
        beat: called before every batch.
        resolution: side of its pictures in pixels.
        real: the data, whose shares of the classes are drawn.
    """
    if isinstance(sampler, LatentSampler) and isinstance(real, ShardImages):
        sampler = sampler.with_shares(real.label_counts)
    size = {"resolution": [resolution, resolution]} if sampler.picture else {}
    return WatchedGenerator(
        network=network,
        sampler=sampler,
        notes={**size, "standing_statistics": 0},
        beat=beat,
    )


log = logging.getLogger("framework")


class Evaluator:
    """The evaluations of a run, the same on every process; `open_evaluator` makes one.

    Args:
        metrics: the metrics to measure.
        models: the networks that metrics need; where one is not there, its metrics are missing.
        average: the moving average of the generator.
        real: opens the training data at a resolution in pixels, None where it is computed; not called where samples
            are no pictures and no metric compares.
        sampler: draws the generator's samples.
    """

    def __init__(
        self,
        *,
        metrics: Sequence[Metric],
        models: EvaluationModels,
        average: EMA,
        real: Callable[[int], SampleSet | None],
        sampler: Sampler,
        session: Session,
        tracker: Tracker | NullTracker,
        status: Status,
        progress: Progress,
    ) -> None:
        self._metrics, self._models, self._average = tuple(metrics), models, average
        self._real, self._sampler, self._session = real, sampler, session
        self._tracker, self._status, self._progress = tracker, status, progress
        self._history, self._distance, self._scores = MetricHistory(), "", list[str]()
        self._told: set[str] = set()
        self._evaluated_at, self._news = -1, False
        self._begun, self._seconds = time.monotonic(), 0.0

    def begin(self, network: nn.Module, *, resolution: int) -> None:
        """Choose by which score checkpoints are compared, and say what will be missing (a collective).

        The score is the first distance of --eval-metrics, by the protocol at the final resolution.

        Args:
            network: the generator.
            resolution: the final resolution in pixels.

        Raises:
            FrameworkError: the real images cannot be read on some process.
        """
        # The protocols that the finished generator will be measured by.
        real = self._opened(resolution)
        plan = EvaluationPlan(
            samples=self._generated(network, resolution=resolution, real=real),
            reference=real,
            metrics=self._metrics,
            models=self._models,
            settings=Settings(),
        )
        distances = {
            name: key
            for metric in self._metrics
            for (output, name), key in zip(plan.names(metric).items(), plan.keys(metric), strict=True)
            if metric.lower_is_better(output)
        }
        # The score that compares checkpoints; a resumed run may know others from before.
        self._distance = next(iter(distances), "")
        if key := distances.get(self._distance):
            self._scores = [*(former for former in self._scores if former != key), key]
        # What cannot be measured is said before the first step.
        obstacles = {metric: plan.obstacle(metric) for metric in self._metrics}
        self._tell_missing({n: why for metric, why in obstacles.items() if why for n in plan.names(metric).values()})

    def scores(self) -> dict[str, Any]:
        """Return the score that compares checkpoints and those of earlier launches, as options of `Retention`."""
        return {"score": self._scores[-1], "former_scores": tuple(self._scores[:-1])} if self._scores else {}

    def evaluate(self, images_seen: int, *, checkpoint: Path, settle: Callable[[], bool]) -> None:
        """Measure, once for a clock, and keep the records beside its checkpoint (a collective).

        Args:
            images_seen: the clock.
            checkpoint: folder of its checkpoint, which may still be being written.
            settle: waits for the checkpoint and returns whether it is there, the same on every process.
        """
        if self._evaluated_at == images_seen:
            return
        self._evaluated_at, self._news = images_seen, False
        # Measure; a failure makes metrics missing and does not end the run.
        begun, records, missing = time.monotonic(), list[Record](), dict[str, str]()
        try:
            records = self._measure({"checkpoint": str(checkpoint), "images_seen": images_seen})
        except (FrameworkError, OSError, torch.OutOfMemoryError) as error:
            # The first two are raised on every process at once, see `together`; a lack of memory usually is.
            missing = dict.fromkeys(self._names(), _in_flags_of_a_run(str(error)))
            if not self._session.is_main and str(error) not in self._told:  # rank 0 may only know that another failed
                log.warning("rank %d: no evaluation at %d images: %s", self._session.rank, images_seen, error)
                self._told.add(str(error))
        # Wait for the checkpoint, and compare with earlier evaluations.
        release_unused(self._session.device)
        self._progress.beat("waiting for the checkpoint that was evaluated", long=True)
        saved = settle()
        self._take(images_seen, _values(records))
        self._news = self._is_measured(records)
        self._seconds += time.monotonic() - begun
        # Rank 0 writes: beside the checkpoint, into the journal, on the screen.
        if self._session.is_main:
            if saved:
                self._keep(checkpoint, records)
            self._journal(images_seen, records, missing)
            self._tell(records)
            self._tell_missing(missing | {record.name: record.missing for record in records if record.missing})

    def _measure(self, subject: Mapping[str, Any]) -> list[Record]:
        """Measure the averaged generator at its present resolution, without a trace in training (a collective)."""
        with undisturbed(), averaged(self._average) as network:
            one = self._generated(network)
            side = one.picture_size()[-1] if one.picture else 0  # a growing generator's present one
            real = self._opened(side)
            return evaluate(
                self._generated(network, resolution=side, real=real),
                real,
                metrics=self._metrics,
                models=self._models,
                session=self._session,
                subject=subject,
            )

    def _opened(self, resolution: int) -> SampleSet | None:
        """Open the real samples on every process or on none, where they are needed."""
        needed = self._sampler.picture or any(metric.compares_with_real for metric in self._metrics)
        with together(self._session, doing="to open the real images"):
            return self._real(resolution) if needed else None

    def _generated(self, network: nn.Module, **known: Any) -> WatchedGenerator:
        return watched_generator(network, sampler=self._sampler, beat=self.beat, **known)

    def _take(self, images_seen: int, values: Mapping[str, tuple[float, bool]]) -> None:
        """Take the values of one evaluation into account, as `_values` returns them."""
        self._history.take(
            images_seen,
            {series: value for series, (value, _) in values.items()},
            lower_is_better={series: lower for series, (_, lower) in values.items()},
        )

    def beat(self) -> None:
        """Tell the watchdog that an evaluation has come a step further."""
        self._progress.beat("evaluating", long=True)

    def take_distance_growth(self) -> float | None:
        """Return the first distance of --eval-metrics over its best, once per evaluation (`MetricHistory.growth`)."""
        news, self._news = self._news, False
        return self._history.growth(self._distance) if news else None

    def _is_measured(self, records: Sequence[Record]) -> bool:
        return any(record.name == self._distance and record.value is not None for record in records)

    def _names(self) -> list[str]:
        extractor = self._models.extractor
        other = extractor.identity.name.rpartition("/")[2] if extractor and not extractor.is_inception else None
        return [name for metric in self._metrics for name in metric.names(other).values()]

    def _keep(self, checkpoint: Path, records: Sequence[Record]) -> None:
        try:
            write_records(checkpoint, records)
        except (FrameworkError, OSError) as error:
            log.warning("the records of %s are in the journal only: %s", checkpoint, error)

    def _journal(self, images_seen: int, records: Sequence[Record], missing: Mapping[str, str]) -> None:
        told: dict[str, Any] = {record.name: record.to_json() for record in records}
        told |= {name: {"value": None, "missing": why} for name, why in missing.items()}
        self._tracker.evaluation(told, images_seen=images_seen)
        self._tracker.tags(protocol_tags(record for record in records if record.value is not None))
        self._tracker.metrics({"perf/eval_share": self._share()}, images_seen=images_seen)

    def _share(self) -> float:
        """Return the share of the time since this launch began that evaluations have taken."""
        return self._seconds / (time.monotonic() - self._begun)

    def _tell(self, records: Sequence[Record]) -> None:
        told = []
        for record in records:
            if record.value is not None:
                at, best = self._history.best[record.series]
                improved = self._history.latest[record.series][0] == at
                what = "best so far, at" if improved else f"best {best:.4g} at"
                told.append(f"{record.name} {record.value:.4g} ({what} {format_count(at)} images)")
        if told:
            self._status.say(f"evaluated: {', '.join(told)}; evaluations took {self._share():.1%} of the time so far")

    def _tell_missing(self, reasons: Mapping[str, str]) -> None:
        """Say every reason why metrics are missing, once."""
        for why in dict.fromkeys(reasons.values()):
            if why not in self._told:
                names = ", ".join(name for name, reason in reasons.items() if reason == why)
                self._status.say(f"missing: {names}: {why}; training goes on")
                self._told.add(why)

    def state(self) -> dict[str, Any]:
        """Return what a checkpoint records, as JSON: what is known before the checkpoint's own evaluation."""
        return {"scores": self._scores} | self._history.state()

    def restore(self, checkpoint: Checkpoint) -> None:
        """Restore what was known at a checkpoint, its own records included (a collective)."""
        state, own, self._evaluated_at = checkpoint.record.get("evaluation") or {}, list[Record](), -1
        if self._session.is_main:
            try:
                own = list(read_records(checkpoint.path).values())
            except FrameworkError as error:
                log.warning("evaluations of this checkpoint are forgotten: %s", error)
        self._history.load_state(state)
        self._take(checkpoint.images_seen, json.loads(self._session.broadcast_text(json.dumps(_values(own)))))
        self._scores = [*dict.fromkeys((*state.get("scores", ()), *self._scores))]
        self._news = self._is_measured(own)  # its evaluation came after what the checkpoint holds


def open_evaluator(
    this: RunContext,
    *,
    network: nn.Module,
    average: EMA,
    held_out: StoredSamples | None,
    checkpoint: Checkpoint | None,
    tracker: Tracker | NullTracker,
    status: Status,
    progress: Progress,
) -> Evaluator | None:
    """Open the evaluator of a run, or return None when none is wanted (a collective).

    Args:
        this: what the launch trains, and how.
        network: the generator.
        average: its moving average.
        held_out: samples that are not trained on; None where the recipe has none.
        checkpoint: the checkpoint from which the run goes on; None for a new run.

    Raises:
        FrameworkError: a file of weights cannot be used, or the data cannot be read for evaluations.
    """
    config, session = this.config, this.session
    if config.eval_every_images is None:
        return None
    game = this.recipe.game
    assert isinstance(game, Game)
    progress.beat("opening what metrics need", long=True)
    metrics = config.metrics(this.recipe.metrics)
    try:
        models = open_models(
            metrics,
            session=session,
            extractor=config.eval_extractor,
            weights=config.eval_extractor_weights,
        )
    except FrameworkError as error:
        raise FrameworkError(_in_flags_of_a_run(str(error))) from None
    evaluator = Evaluator(
        metrics=metrics,
        models=replace(models, missing={model: _in_flags_of_a_run(why) for model, why in models.missing.items()}),
        average=average,
        real=lambda resolution: _real_set(this, resolution, beat=evaluator.beat),
        sampler=game.sampler(this.recipe, seed=SEED, held_out=held_out),
        session=session,
        tracker=tracker,
        status=status,
        progress=progress,
    )
    if checkpoint is not None:
        evaluator.restore(checkpoint)
    evaluator.begin(network, resolution=this.recipe.segments()[-1].resolution)
    return evaluator


def _real_set(this: RunContext, resolution: int, *, beat: Callable[[], None]) -> SampleSet | None:
    """Open the training data's pictures, or vectors, that generated ones are compared with; None without files.

    Raises:
        FrameworkError: they cannot be read.
    """
    recipe, game = this.recipe, this.recipe.game
    assert isinstance(game, Game)
    cache = this.config.cache_options
    if not recipe.data.fields:
        return WatchedShards(this.data, resolution=resolution, classes=recipe.data.classes, beat=beat, **cache)
    picture = game.real_picture(recipe)
    if picture is None and not this.data:
        return None
    samples = stored_samples(recipe, this.data, this.config)
    return WatchedField(samples, game.drawn(recipe).name if picture is None else picture, beat=beat)


def _values(records: Sequence[Record]) -> dict[str, tuple[float, bool]]:
    """Return value and whether less is better, by series, of the records that are not missing."""
    return {one.series: (one.value, one.lower_is_better) for one in records if one.value is not None}


def _in_flags_of_a_run(text: str) -> str:
    """Rewrite the flags of `framework evaluate` in a message as those of a run, which begin with `--eval-`."""
    return re.sub(r"--(?=(metrics|extractor)\b)", "--eval-", text)
