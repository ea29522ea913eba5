"""Run folders made by an earlier commit: today's code continues them and draws the same images from them.

`runs/make.py` made them. A run that was begun then is continued by the same recipe in today's words, without
`--allow-change`: renamed classes and fields stand in `framework.utils.aliases`.

A later commit that changes rounding on purpose (another kernel, another memory layout) may turn the comparisons of
bytes and bits, and only these, into a stated tolerance. Resuming must keep working.

The last bits of float arithmetic depend on the processor, because libraries choose their kernels by it. On another
kind than the one in `made.json` an 8-bit image may therefore differ by one grey level, where a value lies on the edge
between two (rounding errors of float32, about 1e-6 of the range, are far smaller than one level, 1/255 of it), and
the weights of continued runs are not compared: Adam divides by the gradient's size, so that rounding grows from step
to step.
"""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from benchmarks.bits import checkpoint_hash
from framework.checkpoint import Checkpoint
from framework.commands.sample import SampleOptions, sample
from framework.tracking.records import JOURNAL_NAME
from tests.golden.runs.make import CONTINUED, FLAGS, FOLDER, SAVED, flags
from tests.helpers.launch import Launch
from tests.helpers.processor import processor

MADE: dict[str, Any] = json.loads((FOLDER / "made.json").read_text())
SAME_PROCESSOR = MADE["processor"] == processor()
MOST_GREY_LEVELS = 0 if SAME_PROCESSOR else 1


@pytest.fixture(params=sorted(FLAGS))
def name(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def run(name: str, tmp_path: Path) -> Path:
    """A copy of the run's folder."""
    return Path(shutil.copytree(FOLDER / name, tmp_path / name))


def test_it_draws_the_same_images(name: str, run: Path) -> None:
    options = SampleOptions(out=run / "again.png", grid="5x4", seed=1, count=20, npz=run / "again.npz", progress=False)
    sample(str(run), options=options)
    with np.load(run / "samples.npz") as before, np.load(run / "again.npz") as after:
        assert np.array_equal(before["labels"], after["labels"])
        difference = np.abs(before["images"].astype(int) - after["images"].astype(int))
    print(f"{name}: largest difference {difference.max()} grey levels, at most {MOST_GREY_LEVELS} here ({processor()})")
    assert before_varies(run), "images of one value would show nothing"
    assert difference.max() <= MOST_GREY_LEVELS


def before_varies(run: Path) -> bool:
    with np.load(run / "samples.npz") as before:
        return len(np.unique(before["images"])) > 50


@pytest.mark.timeout(300)
def test_it_is_continued_by_todays_recipe(name: str, run: Path) -> None:
    recipe = FOLDER.parent / f"{name}.py"
    with Launch(recipe, *flags(name, images_seen=CONTINUED), "--out", str(run), world=1, log=run / "log") as launch:
        assert launch.wait() == 0, launch.text()
        text = launch.text()
    assert f"resumed at {SAVED} images" in text, text
    assert "changed" not in text, text
    checkpoint = run / "checkpoints" / str(CONTINUED)
    former = json.loads((FOLDER / name / "checkpoints" / str(SAVED) / "manifest.json").read_text())
    with Checkpoint.open(checkpoint) as opened:
        assert opened.record["draws_version"] == 1, "the run began when there was no other"
        assert opened.record["science_hash"] == former["record"]["science_hash"]
        assert opened.keys() == sorted(former["tensors"])
    journal = (run / JOURNAL_NAME).read_text()
    assert journal.startswith((FOLDER / name / JOURNAL_NAME).read_text())
    if SAME_PROCESSOR:
        assert checkpoint_hash(checkpoint) == MADE["continued"][name]
