"""Runs that collapse for real: noticed, named, and answered as `--on-collapse` says."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from framework.checkpoint import Checkpoint
from tests.helpers.collapse import FROZEN_CRITIC, STRONG_CRITIC
from tests.helpers.journals import points, records
from tests.helpers.launch import ROOT, TINY, Launch, run, unequal

pytestmark = pytest.mark.distributed

POISONED = ROOT / "tests" / "recipes" / "poisoned.py"
FLAGS = ("--log-every-images", "64", "--save-every-images", "160", "--sample-every-images", "10k", "--tracking", "none")


def troubles(out: Path) -> dict[str, dict[str, Any]]:
    """The first record of every sentinel that was not in order."""
    found: dict[str, dict[str, Any]] = {}
    for record in records(out, "health"):
        if record["state"] != "ok":
            found.setdefault(record["sentinel"], record)
    return found


def ended(*flags: str, log: Path) -> str:
    """What a launch that must stop by itself says."""
    with Launch(TINY, *flags, world=1, log=log) as launch:
        assert launch.wait() == 2, launch.text()
        return launch.text()


def test_a_broken_weight_costs_what_came_after_the_checkpoint(tmp_path: Path) -> None:
    """NaN in a weight on both processes after step 30; a rollback survives a stop, and resumes to the same bits."""
    common = (*FLAGS, "--on-collapse", "rollback", "--most-skipped-steps", "4", "--record-keys", "--keep-last", "9")
    fault = {"FRAMEWORK_TEST_POISONED_AT": "61"}
    whole, parts = tmp_path / "whole", tmp_path / "parts"
    text = run(POISONED, *common, "--out", str(whole), "--images", "960", log=tmp_path / "w.log", extra=fault)
    back = records(whole, "rollback")
    print(f"\nNaN in step 31, after 480 images: noticed at {back[0]['from_images']:,}, back to {back[0]['images']:,}")
    assert [(record["from_images"], record["images"]) for record in back] == [(544, 480)]
    assert "back to 480 images: 4 steps in a row had a non-finite loss or gradient (at 544 images)" in text
    rates = dict(points(whole, "lr/G"))
    assert rates[512] == pytest.approx(1e-3), "of the first course: a step is journalled once"
    assert rates[960] == pytest.approx(5e-4)
    record = Checkpoint.open(whole / "checkpoints" / "960").record["rollbacks"]
    assert [(one["from_images"], one["to_images"]) for one in record] == [(544, 480)]
    keys = [int(line.split()[0]) for path in (whole / "keys").glob("*") for line in path.read_text().splitlines()]
    assert sorted(keys) == list(range(960 + 544 - 480)), (
        "data goes on after the collapse: nothing twice, nothing left out"
    )

    run(POISONED, *common, "--out", str(parts), "--images", "640", log=tmp_path / "p1.log", extra=fault)
    run(POISONED, *common, "--out", str(parts), "--images", "960", log=tmp_path / "p2.log")
    assert unequal(whole / "checkpoints" / "960", parts / "checkpoints" / "960") == []


def test_mode_collapse_from_the_start_leaves_nothing_to_go_back_to(tmp_path: Path) -> None:
    out = tmp_path / "run"
    steps = ("--batch-size", "4", "--images", "3200")  # diversity is judged after 600 of them
    flags = (*FLAGS, *FROZEN_CRITIC, *steps, "--on-collapse", "rollback")
    text = ended(*flags, "--out", str(out), log=tmp_path / "log")
    seen = troubles(out)["diversity"]
    print(f"\nmode collapse from the start: {seen['state']} at {seen['images']:,} of 3,200: {seen['reason']}")
    assert "mode collapse" in seen["reason"]
    assert "nothing to go back to at or before" in text
    assert "raise --keep-last" in text
    assert records(out, "rollback") == [], "the kept checkpoints had collapsed, too"
    assert records(out, "end")[-1]["status"] == "FAILED"


def test_a_discriminator_that_wins_every_time_stops_the_run(tmp_path: Path) -> None:
    out = tmp_path / "run"
    flags = (*FLAGS, *STRONG_CRITIC, "--batch-size", "8", "--images", "4800", "--on-collapse", "stop")
    text = ended(*flags, "--out", str(out), log=tmp_path / "log")
    found = troubles(out)
    failing = next(record for record in records(out, "health") if record["state"] == "failing")
    told = {name: (record["state"], record["images"]) for name, record in found.items()}
    print(f"\ndiscriminator too strong from the start: {told}; {failing['sentinel']} ends it at {failing['images']:,}")
    assert failing["sentinel"] in ("sign_real", "discriminator_loss_share")
    assert f"Training ends at {failing['images']:,} images" in text
    assert "Usual remedy" in text


def test_looking_does_not_change_what_is_trained(tmp_path: Path) -> None:
    for name, every in (("often", "32"), ("seldom", "640")):
        flags = ("--images", "640", "--log-every-images", every, "--tracking", "none", "--out", str(tmp_path / name))
        run(TINY, *flags, world=1, log=tmp_path / f"{name}.log")
    assert len(points(tmp_path / "often", "health/diversity")) == 2  # every 20 steps at most
    assert unequal(tmp_path / "often" / "checkpoints" / "640", tmp_path / "seldom" / "checkpoints" / "640") == []
