"""Whether a run resumed from its checkpoint has the same bits, and which operations have no deterministic kernel."""

from __future__ import annotations

import os
import tempfile
import warnings
from pathlib import Path
from typing import Any

import torch

from benchmarks.gpu.job import Job
from benchmarks.gpu.play import Play
from benchmarks.recipes import load_recipe
from framework.checkpoint import Checkpoint
from framework.checkpoint.retention import Retention
from framework.checkpoint.writer import Writer
from framework.recipe import Recipe

RECIPES = ("stylegan2_cifar10", "r3gan_cifar10", "sagan_cifar10")
REHEARSED = ("sagan_fashion",)
STEPS = 2
"""Steps before the checkpoint, and again after it."""


def resume(job: Job) -> None:
    """One finding per recipe, with torch's default algorithms and with deterministic ones."""
    os.environ["CUBLAS_WORKSPACE_CONFIG"] = ":4096:8"  # read when cuBLAS starts; deterministic products need it
    for name in REHEARSED if job.rehearsal else RECIPES:
        for deterministic in (False, True):
            about = {"recipe": name, "deterministic": deterministic}
            if job.late(**about):
                continue
            with job.part(**about), warnings.catch_warnings(record=True) as told:
                warnings.simplefilter("always")
                torch.use_deterministic_algorithms(deterministic, warn_only=True)
                try:
                    found = compared(job, load_recipe(name))
                finally:
                    torch.use_deterministic_algorithms(False)
                lacking = sorted({str(w.message).split(" ")[0] for w in told if "determinis" in str(w.message)})
                job.findings.add(**about, **found, without_deterministic_kernel=lacking)


def compared(job: Job, recipe: Recipe) -> dict[str, Any]:
    """A run of twice `STEPS` steps against one that starts afresh from its checkpoint after the first `STEPS`.

    On a CPU every bit has to be the same; what a GPU does is the question.
    """
    batch_size = 2 if job.rehearsal else 16

    def begin() -> Play:
        return Play(recipe, batch_size=batch_size, device=job.device, precision="bf16")

    straight = begin()
    _advance(straight)
    with tempfile.TemporaryDirectory() as folder:
        clock = _save(straight, Path(folder))
        _advance(straight)
        resumed = begin()
        with Checkpoint.open(Path(folder) / str(clock)) as checkpoint:
            resumed.state.restore(checkpoint)
        resumed.images = clock
        _advance(resumed)
    slices = [play.state.slices(own=True, buffers=True) for play in (straight, resumed)]
    pairs = list(zip(*slices, strict=True))
    different = [a.key for a, b in pairs if not torch.equal(a.values, b.values)]
    largest = max(float((a.values.double() - b.values.double()).abs().max()) for a, b in pairs)
    return {
        "tensors": len(pairs),
        "different": len(different),
        "largest_difference": largest,
        "examples": different[:4],
        **({"ok": not different} if job.rehearsal else {}),
    }


def _advance(play: Play) -> None:
    for _ in range(STEPS):
        _, finite = play.step()
        assert finite


def _save(play: Play, folder: Path) -> int:
    """Write a checkpoint as a run does; the clock, which names it."""
    writer = Writer(folder, rank=0, world=1, token="gpu", retention=Retention())
    record = {"players": play.state.record()}
    writer.save(play.images, play.state.slices(own=True, buffers=True), record=record)
    writer.wait()
    writer.close()
    return play.images
