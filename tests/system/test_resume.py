"""Resume: equal to the bit with the same processes, equal up to rounding with another number of them."""

from __future__ import annotations

import os
import shutil
import signal
import time
from pathlib import Path

import pytest

from framework.checkpoint import Checkpoint, list_checkpoints
from framework.data.consumed import consumed, keys_hash
from framework.runtime.seeding import VERSIONS
from tests.helpers.journals import science
from tests.helpers.launch import SMOOTH, TINY, Launch, largest_difference, run, tensors, unequal

pytestmark = [pytest.mark.distributed, pytest.mark.timeout(600)]
STEPS, BATCH = 40, 16
LOGGED = [208, 400, 608, 640]
"""Points of the log: the step that crosses a multiple of 200, and the last; no checkpoint below lies on one."""
FLAGS = ("--images", str(STEPS * BATCH), "--workers", "2", "--log-every-images", "200", "--tracking", "none")


@pytest.fixture(scope="module")
def straight(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """40 steps on two processes without interruption."""
    folder = tmp_path_factory.mktemp("straight")
    run(TINY, *FLAGS, "--save-every-images", "320", "--out", str(folder / "run"), log=folder / "log")
    return folder / "run"


def assert_same_points(straight: Path, run: Path) -> None:
    """Losses, gradient norms, logits and health: the same clocks, the same bits."""
    undisturbed, points = science(straight), science(run)
    assert [images for images, _ in undisturbed["loss/D"]] == LOGGED
    assert {"loss/G", "grad_norm/D", "logits/real", "penalty/R1", "health/state"} <= undisturbed.keys()
    print(f"{len(undisturbed)} metrics with {sum(map(len, undisturbed.values()))} points")
    assert {name: values for name, values in points.items() if values != undisturbed.get(name)} == {}
    assert points.keys() == undisturbed.keys()


def test_killed_and_started_again_gives_the_same_bits(straight: Path, tmp_path: Path) -> None:
    out = tmp_path / "run"
    flags = (*FLAGS, "--save-every-images", "320", "--out", str(out))
    with Launch(TINY, *flags, log=tmp_path / "killed.log") as killed:
        killed.until(lambda: 320 in list_checkpoints(out / "checkpoints"))
        killed.kill()
    assert list_checkpoints(out / "checkpoints") == [320], "killed too late to show anything"
    text = run(TINY, *flags, log=tmp_path / "again.log")
    assert "resumed at 320 images" in text
    final = str(STEPS * BATCH)
    differing = unequal(straight / "checkpoints" / final, out / "checkpoints" / final)
    count = len(tensors(out / "checkpoints" / final))
    print(f"{STEPS} steps against 20 + SIGKILL + 20, 2 processes: {count - len(differing)} of {count} tensors equal")
    assert differing == []
    assert_same_points(straight, out)
    with Checkpoint.open(out / "checkpoints" / final) as opened:
        assert opened.record["draws_version"] == VERSIONS[-1], "a new run begins with the newest random numbers"


def test_the_same_command_again_says_it_is_finished(straight: Path, tmp_path: Path) -> None:
    text = run(TINY, *FLAGS, "--out", str(straight), log=tmp_path / "log")
    assert "already finished" in text
    assert str(straight / "checkpoints" / "640") in text


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_saves_marks_and_the_next_launch_continues_exactly(
    straight: Path, tmp_path: Path, number: signal.Signals
) -> None:
    out = tmp_path / "run"
    flags = (*FLAGS, "--save-every-images", "100k", "--out", str(out))
    with Launch(TINY, *flags, log=tmp_path / "stopped.log") as stopped:
        stopped.until(lambda: "208/640" in stopped.text())
        os.kill(stopped.workers()[0], number)  # one process only: the others must learn of it
        begun = time.monotonic()
        assert stopped.wait() == 1, stopped.text()  # torch's launcher makes that of every status (75, here)
        print(f"{number.name}: checkpoint and end after {time.monotonic() - begun:.1f} s")
    saved = list_checkpoints(out / "checkpoints")
    assert len(saved) == 1
    assert 208 < saved[0] < 640
    assert (out / "PREEMPTED").exists()
    assert "the same command resumes" in stopped.text()
    run(TINY, *flags, log=tmp_path / "again.log")
    assert not (out / "PREEMPTED").exists()
    assert unequal(straight / "checkpoints" / "640", out / "checkpoints" / "640") == []
    assert_same_points(straight, out)


def test_two_processes_then_one_then_two(tiny_data: Path, tmp_path: Path) -> None:
    base = ("--data", str(tiny_data), "--save-every-images", "160", "--tracking", "none", "--record-keys")
    undisturbed, changing = tmp_path / "undisturbed", tmp_path / "changing"
    run(SMOOTH, *base, "--images", "480", "--out", str(undisturbed), log=tmp_path / "u.log")
    for world, images in ((2, 160), (1, 320), (2, 480)):
        flags = (*base, "--images", str(images), "--out", str(changing))
        text = run(SMOOTH, *flags, world=world, log=tmp_path / f"{images}.log")
        assert f"{world} process(es)" in text
    difference = largest_difference(undisturbed / "checkpoints/480", changing / "checkpoints/480")
    print(f"2 -> 1 -> 2 processes against 2, 30 steps: largest difference of any tensor {difference:.1e}")
    assert difference <= 1e-5
    hashes = [keys_hash(consumed(folder / "keys")) for folder in (undisturbed, changing)]
    print(f"consumed keys: {hashes[0][:16]} and {hashes[1][:16]}")
    assert hashes[0] == hashes[1]
    assert len(consumed(changing / "keys")) >= 480


def test_another_recipe_is_refused_unless_the_change_is_wanted(straight: Path, tmp_path: Path) -> None:
    more = ("--images", "672", "--tracking", "none", "--out", str(straight), "--set", "generator.optimizer.lr=5e-4")
    with Launch(TINY, *more, log=tmp_path / "refused.log") as refused:
        assert refused.wait() != 0
    assert "generator.optimizer.lr: 0.001 -> 0.0005" in refused.text()
    assert "--allow-change" in refused.text()
    assert list_checkpoints(straight / "checkpoints") == [320, 640]


def test_damage_falls_back_to_the_newest_intact_checkpoint(straight: Path, tmp_path: Path) -> None:
    out = tmp_path / "run"
    shutil.copytree(straight, out)
    victim = next((out / "checkpoints/640").glob("state-*.safetensors"))
    content = bytearray(victim.read_bytes())
    content[-5] ^= 1
    victim.write_bytes(content)
    text = run(TINY, *FLAGS, "--out", str(out), log=tmp_path / "log")
    assert "resumed at 320 images" in text
    assert victim.name in text
    assert "Traceback" not in text
    assert unequal(straight / "checkpoints" / "640", out / "checkpoints" / "640") == []
    Checkpoint.open(out / "checkpoints/640").verify("hash")
