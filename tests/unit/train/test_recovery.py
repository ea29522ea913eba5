"""What a rollback changes, and when a run ends instead."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from framework.checkpoint import Retention, TensorSlice, Writer
from framework.recipe.growth import Segment
from framework.runtime.health import Collapse, FiniteGuard, TrainingDiverged
from framework.runtime.session import Session
from framework.train.folder import RunFolder
from framework.train.health import Recovery, Rollback, answer
from tests.fuzz.records import RECORD

ALONE = Session(rank=0, world=1, local_rank=0, device=torch.device("cpu"))


def run_folder(path: Path, *clocks: int) -> RunFolder:
    folder = RunFolder(path=path)
    with Writer(folder.checkpoints, rank=0, world=1, token="test", retention=Retention(last=None)) as writer:
        for images in clocks:
            writer.save(images, [TensorSlice(key="weight", start=0, values=torch.ones(2), shape=(2,))], record=RECORD)
    return folder


def collapse(images_seen: int, onset_images: int) -> Collapse:
    return Collapse("it is broken.", images_seen=images_seen, onset_images=onset_images)


def test_a_course_slows_learning_and_goes_on_with_the_data() -> None:
    first = Rollback(from_images=900, to_images=400, reason="a")
    recovery = Recovery(rollbacks=(first, Rollback(from_images=700, to_images=400, reason="b")))
    segment = Segment(resolution=8, start=0, end=1000, batch_size=4, lr_factor=0.8)
    assert recovery.slowed(segment).lr_factor == pytest.approx(0.2)
    assert Recovery(rollbacks=(first,)).shift_images == 500, "the image after number 900 comes next, at clock 400"
    assert recovery.shift_images == 800, "at clock 700 the data had come to 1,200: it goes on there"
    assert Recovery.restored(json.loads(json.dumps(recovery.state()))) == recovery
    assert Recovery().slowed(segment) == segment


def test_the_newest_checkpoint_from_before_the_trouble_is_taken(tmp_path: Path) -> None:
    folder = run_folder(tmp_path, 0, 100, 200, 300)
    common = {"folder": folder, "session": ALONE}
    found, recovery = answer(collapse(350, 200), Recovery(), on_collapse="rollback", most=1, **common)
    assert found.images_seen == 200, "a checkpoint at the onset is sound"
    assert recovery.rollbacks == (Rollback(from_images=350, to_images=200, reason="it is broken."),)
    with pytest.raises(Collapse, match=r"broken\. Training ends at 350 images: 1 rollbacks .* did not help") as ended:
        answer(collapse(350, 150), recovery, on_collapse="rollback", most=1, **common)
    assert f"from before the trouble is {folder.checkpoints / '100'}" in str(ended.value)
    with pytest.raises(Collapse, match=r"Training ends at 350 images: the newest checkpoint .*200; to go on from it"):
        answer(collapse(350, 299), Recovery(), on_collapse="stop", most=1, **common)


def test_without_a_sound_checkpoint_the_run_ends(tmp_path: Path) -> None:
    folder = run_folder(tmp_path, 300)
    with pytest.raises(Collapse, match="nothing to go back to at or before 200 images: raise --keep-last"):
        answer(collapse(350, 200), Recovery(), on_collapse="rollback", most=3, folder=folder, session=ALONE)


def test_a_damaged_old_checkpoint_does_not_hide_the_collapse(tmp_path: Path) -> None:
    folder = run_folder(tmp_path, 100, 300)
    for file in (folder.checkpoints / "100").glob("*.safetensors"):
        file.write_bytes(b"")
    with pytest.raises(Collapse, match=r"it is broken\. Training ends at 350 images: nothing to go back to"):
        answer(collapse(350, 200), Recovery(), on_collapse="rollback", most=3, folder=folder, session=ALONE)


def test_a_row_of_skipped_steps_began_after_the_last_finite_one() -> None:
    guard = FiniteGuard(most_in_a_row=2)
    guard.begin(images_seen=100, skipped_steps=5)
    guard.observe(finite=False, images_seen=116)
    guard.observe(finite=True, images_seen=132)
    guard.observe(finite=False, images_seen=148)
    with pytest.raises(TrainingDiverged) as diverged:
        guard.observe(finite=False, images_seen=164)
    assert (diverged.value.images_seen, diverged.value.onset_images, guard.skipped_steps) == (164, 132, 8)
