"""The health of a run: signals gathered at every report, alerts, and the way back after a collapse.

Rank 0 measures and sends its values to the others, so that every process comes to the same alerts, whatever its
arithmetic. Training is not changed: samples come from the average, whose buffers are put back, and their latents are
functions of the seed.

Repeating the same steps exactly would collapse again exactly. So after a collapse training goes on from the last sound
checkpoint with the data that would have come after the collapse, and with a learning rate that every rollback halves.
The rollback is written into the checkpoint that the run went back to, before the first new step, so that a crash cannot
undo it.
"""

from __future__ import annotations

import dataclasses
import json
import logging
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from framework.checkpoint import Checkpoint
from framework.checkpoint.layout import EVALUATION, SCORES
from framework.engines.ema import EMA
from framework.games.base import Game
from framework.objectives.equilibrium import Equilibrium
from framework.objectives.terms import letter_of
from framework.recipe import Recipe
from framework.recipe.growth import Segment
from framework.runtime.health import Collapse, OnCollapse
from framework.runtime.session import Session
from framework.sampling.latents import grid_labels
from framework.sentinels import SENTINELS, Alert, Baselines, Health, SentinelStates, diversity, signals, spread
from framework.sentinels.diversity import SIDE, shrunk
from framework.sentinels.motion import Rows, coarse, kept, moved, shifted, spread_of
from framework.sentinels.signals import singular_values, weak_discriminator
from framework.train.folder import RunFolder
from framework.train.samples import averaged
from framework.train.state import TrainingState
from framework.utils.atomic import replacing

LR_FACTOR = 0.5
"""The factor on both players' learning rates for every rollback."""


@dataclass(frozen=True, kw_only=True)
class Rollback:
    """One return to an earlier checkpoint."""

    from_images: int
    """The clock when the collapse was noticed."""
    to_images: int
    """The clock of the checkpoint."""
    reason: str
    """The collapse, in a sentence."""


@dataclass(frozen=True, kw_only=True)
class Recovery:
    """The effect of all rollbacks on the rest of the run; the same on every process, and part of checkpoints."""

    rollbacks: tuple[Rollback, ...] = ()

    @property
    def lr_factor(self) -> float:
        """The factor on the recipe's learning rates."""
        return LR_FACTOR ** len(self.rollbacks)

    @property
    def shift_images(self) -> int:
        """The images by which the position in the data is ahead of the clock, so that a rollback repeats no data."""
        return sum(rollback.from_images - rollback.to_images for rollback in self.rollbacks)

    def slowed(self, segment: Segment) -> Segment:
        """Return a segment of the clock with the learning rates after these rollbacks."""
        return dataclasses.replace(segment, lr_factor=segment.lr_factor * self.lr_factor)

    def state(self) -> list[dict[str, Any]]:
        """Return what a checkpoint records, as JSON."""
        return [dataclasses.asdict(rollback) for rollback in self.rollbacks]

    @classmethod
    def restored(cls, state: Iterable[Mapping[str, Any]]) -> Recovery:
        """Restore a course from what `state` returned."""
        return cls(rollbacks=tuple(Rollback(**one) for one in state))


def records_beside(checkpoint: Path) -> dict[str, bytes]:
    """Return the files that evaluation has put into the folder of a checkpoint, by name.

    Raises:
        OSError: a file cannot be read.
    """
    return {name: (checkpoint / name).read_bytes() for name in (SCORES, EVALUATION) if (checkpoint / name).exists()}


def put_beside(checkpoint: Path, records: Mapping[str, bytes]) -> None:
    """Put the files of `records_beside` beside the same state, saved anew.

    Raises:
        OSError: a file cannot be written.
    """
    for name, content in records.items():
        with replacing(checkpoint / name) as temporary:
            temporary.write_bytes(content)


def answer(
    collapse: Collapse, recovery: Recovery, *, on_collapse: OnCollapse, most: int, folder: RunFolder, session: Session
) -> tuple[Checkpoint, Recovery]:
    """Answer a collapse: find the checkpoint to go back to, and the course from there (a collective).

    Args:
        collapse: what happened, and when all was well for the last time.
        recovery: the rollbacks so far.
        on_collapse: what the run was told to do.
        most: the most rollbacks of a run.

    Returns:
        The checkpoint and the new course, the same on every process.

    Raises:
        Collapse: the run was not told to go back, has done so often enough, or has no sound checkpoint left.
    """
    # The newest checkpoint from before the trouble.
    sound = folder.newest_checkpoint(session, before=collapse.onset_images + 1)
    where = f"the newest checkpoint from before the trouble is {sound.path}" if sound else "no checkpoint is that old"
    # Every reason to end says where a person could go on.
    if on_collapse != "rollback":
        raise _ended(collapse, f"{where}; to go on from it, move the later ones away, or use --on-collapse rollback")
    if len(recovery.rollbacks) >= most:
        raise _ended(collapse, f"{most} rollbacks (--most-rollbacks) did not help; {where}")
    if sound is None:
        raise _ended(
            collapse, f"nothing to go back to at or before {collapse.onset_images:,} images: raise --keep-last"
        )
    rollback = Rollback(from_images=collapse.images_seen, to_images=sound.images_seen, reason=str(collapse))
    return sound, Recovery(rollbacks=(*recovery.rollbacks, rollback))


def _ended(collapse: Collapse, why: str) -> Collapse:
    """Return the same collapse with the reason why training ends with it."""
    text = str(collapse).rstrip(".")
    return Collapse(
        f"{text}. Training ends at {collapse.images_seen:,} images: {why}",
        images_seen=collapse.images_seen,
        onset_images=collapse.onset_images,
    )


log = logging.getLogger("framework")

LEAST_STEPS = 20
"""The fewest steps between two looks; with large batches a report may be of a single step, which says nothing."""
MOST_CLASSES = 10
"""The most classes whose diversity is measured."""
PER_CLASS = 8
"""The number of samples of a class; its spread is then known to about a tenth."""
WITHOUT_CLASSES = 64
"""The number of samples of a generator without classes."""


class HealthMonitor:
    """The watch over a run's health.

    Args:
        state: its networks' singular values are measured.
        average: its samples' diversity is measured.
        on_collapse: with `warn`, `raise_if_collapsed` never raises.
    """

    def __init__(
        self, recipe: Recipe, *, state: TrainingState, average: EMA, session: Session, on_collapse: OnCollapse
    ) -> None:
        self._recipe, self._state, self._average, self._session = recipe, state, average, session
        self._on_collapse = on_collapse
        assert isinstance(recipe.game, Game)
        self._game = recipe.game
        equilibrium = recipe.game.equilibrium()
        self._equilibrium = equilibrium or Equilibrium(logit=None, discriminator_loss=None)
        if equilibrium is not None and equilibrium.discriminator_loss is None and session.is_main:
            log.warning(
                "%s states no `equilibrium`, and an undecided discriminator's logit is not 0 in it: sign_real and "
                "discriminator_loss_share are not measured (docs/sentinels.md)",
                type(getattr(recipe.game, "loss", recipe.game)).__name__,
            )
        step_images = recipe.game.images_per_step(recipe.batch_size)
        self._watch = SentinelStates(SENTINELS, total_images=recipe.images, step_images=step_images)
        self._baselines = Baselines()
        self._real: dict[int, dict[int, float]] = {}
        """The spread of real samples by resolution, 0 for vectors, and class."""
        self._place = RealPlace(mean=[], spread=0.0)
        self._samples: Rows = []
        """The coarse samples of the last look."""
        self._skipped_steps = 0
        self._steps, self._sums = 0, dict[str, tuple[float, int]]()
        """The steps since the last look, and of every score its sum over steps and their number."""
        self._growth: float | None = None
        """The last evaluated distance over its best since the last look; None without one."""
        self._standing: list[Alert] = []

    @property
    def standing(self) -> list[Alert]:
        """The alerts of the last look, changed or not."""
        return self._standing

    @property
    def knows_the_data(self) -> bool:
        """Whether the diversity of real images is known, from `meet` or from a checkpoint."""
        return bool(self._real)

    def measure_real_data(self, reals: Mapping[str, Tensor] | None) -> None:
        """Learn how diverse the data is, from some of its pictures on rank 0, if the game compares them (a collective).

        Args:
            reals: some hundred samples by field as a batch has them, pictures (N, C, H, W) uint8 at the recipe's
                resolution; used on rank 0, None elsewhere.
        """
        name = self._game.diverse_field(self._recipe)
        if name is None:
            return
        real: dict[int, dict[int, float]] = {}
        if self._session.is_main:
            assert reals is not None
            images = reals[name]
            chosen = reals["label"] if self._recipe.data.classes else None
            if len(spread(images, chosen).keys() & set(_classes(self._recipe))) < 2:
                chosen = None  # too many classes for so few images: all samples are compared with all images instead
            for side in {_side(images, segment.resolution) for segment in self._recipe.segments()}:
                real[side] = spread(shrunk(images, side), chosen)
            place = _place_of(images, chosen, classes=_classes(self._recipe))
        else:
            place = RealPlace(mean=[], spread=0.0)
        told, mean, width = self._from_rank0([_with_names(real), place.mean, place.spread])
        self._real, self._place = _with_numbers(told), RealPlace(mean=mean, spread=width)

    def observe(
        self,
        images_seen: int,
        metrics: Mapping[str, float],
        *,
        steps: int,
        skipped_steps: int,
        distance_growth: float | None = None,
    ) -> tuple[dict[str, float], list[Alert]]:
        """Look at the run: compute its signals and what they change (a collective).

        Args:
            images_seen: the clock.
            metrics: means since the last report.
            steps: number of steps since the last report.
            skipped_steps: number of skipped steps of the whole run.
            distance_growth: an evaluated distance over its best; None without a new evaluation.

        Returns:
            The signals as metrics and the alerts that changed, the same on every process; nothing while there were
            fewer than `LEAST_STEPS` steps since the last look.
        """
        self.take(metrics, steps=steps, distance_growth=distance_growth)
        if self._steps < LEAST_STEPS:
            return {}, []
        # Rank 0 measures networks and samples.
        sigmas, diverse, self._samples = self._from_rank0([self._sigmas(), *self._looked_at()])
        # Signals of everything since the last look.
        found = signals(
            {name: total / count for name, (total, count) in self._sums.items()},
            equilibrium=self._equilibrium,
            baselines=self._baselines,
            steps=self._steps,
            skipped_steps=skipped_steps - self._skipped_steps,
            sigmas=sigmas,
        )
        weak = weak_discriminator(found.get("discriminator_loss_share"), shift=diverse.pop("shift", None))
        found |= {} if weak is None else {"weak_discriminator": weak}
        found |= diverse | ({} if self._growth is None else {"distance_growth": self._growth})
        self._skipped_steps, self._steps, self._sums, self._growth = skipped_steps, 0, {}, None
        # Verdicts on them.
        changed = self._watch.observe(images_seen, found)
        self._standing = self._watch.standing(images_seen, found)
        metrics = {f"health/{name}": value for name, value in found.items()}
        return metrics | {"health/state": float(self._watch.health)}, changed

    def take(self, metrics: Mapping[str, float], *, steps: int, distance_growth: float | None = None) -> None:
        """Keep scores for the next look, as rank 0 has them (a collective); the arguments are those of `observe`."""
        told, growth = self._from_rank0([dict(metrics), distance_growth])
        for name, value in told.items():
            if math.isfinite(value):
                total, count = self._sums.get(name, (0.0, 0))
                self._sums[name] = (total + value * steps, count + steps)
        self._steps += steps
        self._growth = self._growth if growth is None else growth

    def _from_rank0(self, values: Any) -> Any:
        """Return rank 0's values, as JSON carries them (a collective)."""
        return json.loads(self._session.broadcast_text(json.dumps(values)))

    def raise_if_collapsed(self, images_seen: int) -> None:
        """End training if the run has collapsed and was told not to go on like this.

        Raises:
            Collapse: a sentinel is failing; the message is that of the earliest.
        """
        failing = [alert for alert in self._standing if alert.health is Health.failing]
        if failing and self._on_collapse != "warn":
            onset = min(failing, key=lambda alert: alert.onset_images)
            raise Collapse(str(onset), images_seen=images_seen, onset_images=onset.onset_images)

    def _sigmas(self) -> dict[str, float]:
        """Return the largest singular values by player and layer (a collective where parameters are sharded)."""
        found: dict[str, float] = {}
        for side, engine in self._state.players.items():
            with engine.resident():
                found |= {f"{letter_of(side)}/{name}": value for name, value in singular_values(engine.network).items()}
        return found

    def _looked_at(self) -> tuple[dict[str, float], Rows]:
        """Measure samples of the average on rank 0 (a collective where the average is sharded).

        Returns:
            How diverse they are, how far they have moved and, as `shift`, how far their mean lies from the real one;
            and the samples for the next look, coarse.
        """
        if self._game.diverse_field(self._recipe) is None or not (self._average.collective or self._session.is_main):
            return {}, []
        classes = _classes(self._recipe)
        labels = torch.tensor(classes).repeat(PER_CLASS) if classes else None
        count = len(labels) if labels is not None else WITHOUT_CLASSES
        with averaged(self._average) as network:
            samples = self._game.pictures(network, self._recipe, labels=labels, count=count)
        small, rows = shrunk(samples, SIDE), kept(coarse(samples))
        real = self._real.get(_side(small, small.shape[-1]), {})
        found = diversity(spread(small, labels if len(real) > 1 else None), real)
        width, mean = self._place.spread, torch.tensor(rows, dtype=torch.float64).mean(0).tolist()
        further = {
            "sample_motion": moved(rows, self._samples, spread=width),
            "shift": shifted(mean, self._place.mean, spread=width),
        }
        return found | {name: value for name, value in further.items() if value is not None}, rows

    def state(self) -> dict[str, Any]:
        """Return what a checkpoint records, as JSON."""
        return {
            "watch": self._watch.state(),
            "baselines": self._baselines.state(),
            "real": _with_names(self._real),
            "real_place": [self._place.mean, self._place.spread],
            "samples": self._samples,
            "since_last_look": {
                "steps": self._steps,
                "skipped_before": self._skipped_steps,
                "sums": self._sums,
                "distance_growth": self._growth,
            },
        }

    def load_state(self, state: Mapping[str, Any], *, skipped_steps: int) -> None:
        """Restore what `state` returned; from an empty mapping, begin anew.

        Args:
            skipped_steps: number of skipped steps of the whole run so far.
        """
        self._watch.load_state(state.get("watch", {}))
        self._baselines.load_state(state.get("baselines", {}))
        self._real, self._standing = _with_numbers(state.get("real", {})), []
        mean, width = state.get("real_place", ([], 0.0))  # not in checkpoints of before there was this
        self._place, self._samples = RealPlace(mean=mean, spread=width), state.get("samples", [])
        since = state.get("since_last_look", {})
        self._steps, self._skipped_steps = since.get("steps", 0), since.get("skipped_before", skipped_steps)
        self._sums = {name: (total, count) for name, (total, count) in since.get("sums", {}).items()}
        self._growth = since.get("distance_growth")


@dataclass(frozen=True, kw_only=True)
class RealPlace:
    """Where the data is, as far as a watch needs it: of coarse samples, see `framework.sentinels.motion`."""

    mean: list[float]
    """The mean of real samples, K numbers; none where it is not known."""
    spread: float
    """The root mean square distance of two real samples; 0 where it is not known."""


def _place_of(samples: Tensor, labels: Tensor | None, *, classes: Sequence[int]) -> RealPlace:
    """Return the place of real samples (N, ...), every class alike as it is among generated ones."""
    rows = coarse(samples)
    groups = [rows]
    if labels is not None:
        groups = [rows[labels == label] for label in classes if bool((labels == label).any())]
    mean = torch.stack([group.mean(0) for group in groups]).mean(0)
    return RealPlace(mean=mean.tolist(), spread=spread_of(rows))


def _side(samples: Tensor, resolution: int) -> int:
    """Return the side at which pictures (N, C, H, W) of a resolution are compared; 0 for vectors (N, D)."""
    return min(SIDE, resolution) if samples.dim() == 4 else 0


def _classes(recipe: Recipe) -> list[int]:
    """Return the classes whose diversity is measured, at most `MOST_CLASSES`, spread evenly; none without classes."""
    count = min(recipe.data.classes, MOST_CLASSES)
    labels = grid_labels(rows=1, columns=count, classes=recipe.data.classes) if count else None
    return [] if labels is None else labels.tolist()


def _with_names(real: Mapping[int, Mapping[int, float]]) -> dict[str, dict[str, float]]:
    """Turn the keys into strings, as JSON needs them."""
    return {str(side): {str(label): value for label, value in row.items()} for side, row in real.items()}


def _with_numbers(real: Mapping[str, Mapping[str, float]]) -> dict[int, dict[int, float]]:
    """Turn the keys of JSON back into numbers."""
    return {int(side): {int(label): value for label, value in row.items()} for side, row in real.items()}
