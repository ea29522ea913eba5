"""The health of a run: signals gathered at every tick, verdicts, and whether going on makes sense.

Rank 0 measures and tells the others, so every process comes to the same verdicts, whatever its arithmetic. Training is
not touched: samples come from the average, whose buffers are put back, and their latents are functions of the seed.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from framework.engines.averaging import Average
from framework.games.rules import Alternating
from framework.networks import latent_size
from framework.networks.blocks.spectral import power_iteration
from framework.recipe import Recipe
from framework.runtime.health import Collapse, OnCollapse
from framework.runtime.session import Session
from framework.sampling.generate import POWER_ITERATIONS, generate
from framework.sampling.latents import grid_labels, latents
from framework.sentinels import SENTINELS, Baselines, Health, Verdict, Watch, diversity, signals, spread
from framework.sentinels.diversity import SIDE, shrunk
from framework.sentinels.signals import singular_values
from framework.train.state import TrainingState

MOST_CLASSES = 10
PER_CLASS = 8
"""Samples of a class; its spread is then known to about a tenth."""
WITHOUT_CLASSES = 64
LETTERS = {"generator": "G", "discriminator": "D"}


class Sentry:
    """Judges a run.

    Args:
        state: whose networks are looked at.
        average: whose samples are.
        on_collapse: with `warn`, `judge` never raises.
    """

    def __init__(
        self, recipe: Recipe, *, state: TrainingState, average: Average, session: Session, on_collapse: OnCollapse
    ) -> None:
        self._recipe, self._state, self._average, self._session = recipe, state, average, session
        self._on_collapse = on_collapse
        assert isinstance(recipe.game, Alternating)
        step_images = recipe.game.images_per_step(recipe.batch_size)
        self._watch = Watch(SENTINELS, total_images=recipe.images, step_images=step_images)
        self._baselines = Baselines()
        self._real: dict[int, dict[int, float]] = {}
        """Spread of real images by resolution and class."""
        self._skipped_steps = 0
        self._standing: list[Verdict] = []

    @property
    def standing(self) -> list[Verdict]:
        """The last tick's verdicts, changed or not."""
        return self._standing

    def meet(self, images: Tensor | None, labels: Tensor | None) -> None:
        """Learn how diverse the data is, from some of its images on rank 0 (a collective).

        Args:
            images: (N, C, H, W) uint8 at the recipe's resolution, some hundreds; used on rank 0.
            labels: (N,) int64.
        """
        real: dict[int, dict[int, float]] = {}
        if self._session.is_main:
            assert images is not None
            chosen = labels if self._recipe.data.classes else None
            if not set(_classes(self._recipe)) <= spread(images, chosen).keys():
                chosen = None  # too many classes for so few images: all samples are compared with all images instead
            for side in {min(SIDE, segment.resolution) for segment in self._recipe.segments()}:
                real[side] = spread(shrunk(images, side), chosen)
        self._real = _with_numbers(json.loads(self._session.broadcast_text(json.dumps(real))))

    def observe(
        self,
        images: int,
        scores: Mapping[str, float],
        *,
        steps: int,
        skipped_steps: int,
        distance_growth: float | None = None,
    ) -> tuple[dict[str, float], list[Verdict]]:
        """This tick's signals as metrics, and the verdicts they change; the same on every process (a collective).

        Args:
            scores: means since the last tick.
            steps: since the last tick.
            skipped_steps: of the whole run.
            distance_growth: of an evaluation since the last tick, relative to the best.
        """
        assert isinstance(self._recipe.game, Alternating)
        evaluated = {} if distance_growth is None else {"distance_growth": distance_growth}
        seen = [dict(scores), self._sigmas(), self._diversity() if steps else {}, evaluated]
        scores, sigmas, diverse, evaluated = json.loads(self._session.broadcast_text(json.dumps(seen)))
        found = signals(
            scores,
            loss=self._recipe.game.loss,
            baselines=self._baselines,
            steps=steps,
            skipped_steps=skipped_steps - self._skipped_steps,
            sigmas=sigmas,
        )
        found |= diverse | evaluated
        self._skipped_steps = skipped_steps
        changed = self._watch.observe(images, found)
        self._standing = self._watch.standing(images, found)
        metrics = {f"health/{name}": value for name, value in found.items()}
        return metrics | {"health/state": float(self._watch.health)}, changed

    def judge(self, images: int) -> None:
        """Whether training may go on.

        Raises:
            Collapse: a sentinel is failing, and the run was told not to go on like this.
        """
        failing = [verdict for verdict in self._standing if verdict.health is Health.failing]
        if failing and self._on_collapse != "warn":
            onset = min(failing, key=lambda verdict: verdict.onset_images)
            raise Collapse(str(onset), images=images, onset_images=onset.onset_images)

    def _sigmas(self) -> dict[str, float]:
        found: dict[str, float] = {}
        for side, engine in self._state.players.items():
            with engine.resident():
                found |= {f"{LETTERS[side]}/{name}": value for name, value in singular_values(engine.network).items()}
        return found

    def _diversity(self) -> dict[str, float]:
        """Of samples from the average; measured on rank 0, with the others' help where the average is sharded."""
        if not (self._session.is_main or self._state.players["generator"].collective_forward):
            return {}
        classes = _classes(self._recipe)
        labels = torch.tensor(classes).repeat(PER_CLASS) if classes else None
        count = len(labels) if labels is not None else WITHOUT_CLASSES
        with self._average.swapped_in() as network:
            power_iteration(network, steps=POWER_ITERATIONS)
            z = latents(seed=self._recipe.seed, count=count, z_dim=latent_size(network), purpose="diversity")
            small = shrunk(generate(network, z, labels), SIDE)
        real = self._real.get(small.shape[-1], {})
        return diversity(spread(small, labels if len(real) > 1 else None), real)

    def state(self) -> dict[str, Any]:
        """For checkpoints, as JSON."""
        return {"watch": self._watch.state(), "baselines": self._baselines.state(), "real": _with_names(self._real)}

    def load_state(self, state: Mapping[str, Any], *, skipped_steps: int) -> None:
        """Restore what `state` returned."""
        self._watch.load_state(state["watch"])
        self._baselines.load_state(state["baselines"])
        self._real, self._standing, self._skipped_steps = _with_numbers(state["real"]), [], skipped_steps


def _classes(recipe: Recipe) -> list[int]:
    """Classes whose diversity is measured, at most `MOST_CLASSES`, spread evenly; none without classes."""
    count = min(recipe.data.classes, MOST_CLASSES)
    labels = grid_labels(rows=1, columns=count, classes=recipe.data.classes) if count else None
    return [] if labels is None else labels.tolist()


def _with_names(real: Mapping[int, Mapping[int, float]]) -> dict[str, dict[str, float]]:
    """The same with the keys of JSON."""
    return {str(side): {str(label): value for label, value in row.items()} for side, row in real.items()}


def _with_numbers(real: Mapping[str, Mapping[str, float]]) -> dict[int, dict[int, float]]:
    return {int(side): {int(label): value for label, value in row.items()} for side, row in real.items()}
