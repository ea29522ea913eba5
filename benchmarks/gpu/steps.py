"""One real training step of every recipe in every precision; in fp32 the same step on the CPU beside it."""

from __future__ import annotations

import math
import time
from typing import Any

import torch

from benchmarks.gpu.job import Job, allow_tf32, synchronize
from benchmarks.gpu.play import Play
from benchmarks.recipes import FOLDER, load_recipe
from framework.engines.base import Precision
from framework.recipe import Recipe

PRECISIONS: tuple[Precision, ...] = ("bf16", "fp16", "fp32")
"""fp32 last: the CPU's steps take longest, and the budget may end in them."""
REHEARSED = ("sagan_fashion",)
REHEARSED_PRECISIONS: tuple[Precision, ...] = ("bf16", "fp32")
"""A CPU has no fast fp16: its step takes minutes."""
FP16_STEPS = 8
"""Steps in which fp16's loss scale, which begins at 2^16 and halves on an overflow, must come to a finite one."""
COMPARED_RESOLUTION = 256
"""The largest at which the CPU plays the step, too; above, that would take a minute."""
SCORE_BOUND = 1e-3
"""The largest difference of a loss or gradient norm from the CPU's, relative to values above 1; fp32 without TF32."""
WEIGHT_BOUND = 0.05
"""The largest mean difference of a player's weights, in learning rates. Adam's first step moves each by about the rate,
up or down: where a gradient is nothing but rounding its sign is chance, and few weights are such."""


def steps(job: Job) -> None:
    """A step of each recipe with its own networks at full width and a small batch, the cheap ones first."""
    names = REHEARSED if job.rehearsal else [path.stem for path in FOLDER.glob("*.py")]
    recipes = {name: load_recipe(name) for name in names}
    allow_tf32(False)
    for precision in REHEARSED_PRECISIONS if job.rehearsal else PRECISIONS:
        for name in sorted(recipes, key=lambda name: (recipes[name].data.resolution, name)):
            if job.late(recipe=name, precision=precision):
                continue
            with job.part(recipe=name, precision=precision):
                job.findings.add(recipe=name, precision=precision, **stepped(job, recipes[name], precision))


def stepped(job: Job, recipe: Recipe, precision: Precision) -> dict[str, Any]:
    """What came of the step."""
    batch_size = 2 if job.rehearsal else _batch_size(recipe)
    play = Play(recipe, batch_size=batch_size, device=job.device, precision=precision)
    began = time.perf_counter()
    taken = 0
    finite = False
    while not finite and taken < (FP16_STEPS if precision == "fp16" else 1):
        metrics, finite = play.step()
        taken += 1
    synchronize(job.device)
    seconds = time.perf_counter() - began
    means = metrics.means(device=job.device)
    found: dict[str, Any] = {
        "batch_size": batch_size,
        "seconds": round(seconds, 2),
        "steps": taken,
        "finite": finite,
        "losses": {name: value for name, value in means.items() if name.startswith("loss/")},
    }
    ok = finite and all(map(math.isfinite, means.values()))
    if precision == "fp32" and recipe.data.resolution <= COMPARED_RESOLUTION:
        beside = Play(recipe, batch_size=batch_size, device=torch.device("cpu"), precision=precision)
        metrics, _ = beside.step()
        found["score_difference"] = _score_difference(means, metrics.means(device=beside.device))
        found["weight_difference"] = {side: _weight_difference(play, beside, recipe, side) for side in recipe.players}
        ok = ok and found["score_difference"] < SCORE_BOUND
        ok = ok and max(found["weight_difference"].values()) < WEIGHT_BOUND
    return found | {"ok": ok}


def _score_difference(means: dict[str, float], expected: dict[str, float]) -> float:
    """The largest, of losses, penalties and gradient norms."""
    names = [name for name in expected if name.startswith(("loss/", "penalty/", "grad_norm/"))]
    return max(abs(means[name] - expected[name]) / max(1.0, abs(expected[name])) for name in names)


def _weight_difference(play: Play, beside: Play, recipe: Recipe, side: str) -> float:
    """The mean absolute difference of a player's weights, in its learning rates."""
    mine, theirs = (p.players[side].network.parameters() for p in (play, beside))
    pairs = [(a.detach().cpu().double(), b.detach().double()) for a, b in zip(mine, theirs, strict=True)]
    total = sum(float((a - b).abs().sum()) for a, b in pairs)
    return total / sum(a.numel() for a, _ in pairs) / getattr(recipe, side).optimizer.lr


def _batch_size(recipe: Recipe) -> int:
    """Small enough for a CPU to play the same step within seconds."""
    if recipe.data.resolution <= 64:
        return 16 if recipe.data.resolution <= 32 else 8
    return 4 if recipe.data.resolution <= 256 else 2
