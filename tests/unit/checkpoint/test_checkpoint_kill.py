"""SIGKILL at every point of a save: a whole checkpoint is found, and the next launch saves as if nothing had been."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from framework.checkpoint import Retention, Writer, list_checkpoints, newest_valid


@pytest.fixture(scope="module")
def kills(tmp_path_factory) -> list[dict]:
    root = tmp_path_factory.mktemp("kill") / "runs"
    script = Path(__file__).with_name("kill_points.py")
    environment = os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": os.pathsep.join(sys.path)}
    done = subprocess.run(
        [sys.executable, str(script), str(root)], env=environment, capture_output=True, text=True, timeout=200
    )
    assert done.returncode == 0, done.stderr
    return [json.loads(line) for line in done.stdout.splitlines()]


def value_of(checkpoint) -> int:
    """The value all of the checkpoint was made from: record, weights and averages must agree."""
    value = checkpoint.record["value"]
    assert torch.equal(checkpoint.full("generator/weight/w"), torch.full((2, 3), float(value)))
    assert torch.equal(checkpoint.full("generator/ema/w"), (torch.arange(6.0) + value).view(2, 3))
    return value


def retry(folder: Path, images_seen: int) -> None:
    from kill_points import slices

    writer = Writer(folder, rank=0, world=1, token="retry", retention=Retention(last=2))
    writer.save(images_seen, slices(9), record={"value": 9})
    writer.close()


def entries(folder: Path) -> list[str]:
    return sorted(os.listdir(folder))


@pytest.fixture(autouse=True)
def script_importable(monkeypatch):
    monkeypatch.syspath_prepend(str(Path(__file__).parent))


def test_killed_in_a_fresh_save(kills):
    chosen = [kill for kill in kills if kill["scenario"] == "fresh"]
    points = [kill["point"] for kill in chosen]
    assert len(points) >= 15
    committed = points.index("published")
    for number, kill in enumerate(chosen):
        folder = Path(kill["folder"])
        found, rejected = newest_valid(folder)
        assert not rejected, kill
        assert (found.images_seen, value_of(found)) == ((200, 7) if number >= committed else (100, 100)), kill
        retry(folder, 200)
        assert entries(folder) == ["100", "200"], kill
        assert value_of(newest_valid(folder)[0]) == 9


def test_killed_while_replacing_a_checkpoint_of_the_same_images(kills):
    chosen = [kill for kill in kills if kill["scenario"] == "replace"]
    points = [kill["point"] for kill in chosen]
    committed = points.index("published")
    assert "set aside" in points
    for number, kill in enumerate(chosen):
        folder = Path(kill["folder"])
        assert list_checkpoints(folder) == [100, 200], kill  # never lost, not even between the two renames
        found, rejected = newest_valid(folder)
        assert not rejected, kill
        assert (found.images_seen, value_of(found)) == (200, 7 if number >= committed else 200), kill
        retry(folder, 300)
        assert entries(folder) == ["200", "300"], kill
        assert value_of(newest_valid(folder, before=300)[0]) == (7 if number >= committed else 200), kill


def test_killed_after_going_back(kills):
    """Saving 200 while a 300 of the abandoned course exists."""
    chosen = [kill for kill in kills if kill["scenario"] == "back"]
    aside = [kill["point"] for kill in chosen].index("later ones aside")
    for number, kill in enumerate(chosen):
        folder = Path(kill["folder"])
        found, rejected = newest_valid(folder)
        assert not rejected, kill
        assert (found.images_seen, value_of(found)) == ((200, 7) if number >= aside else (300, 300)), kill
        retry(folder, 200)
        assert entries(folder) == ["100", "200", "300.superseded"], kill


def test_killed_rank_among_two(kills):
    chosen = [kill for kill in kills if kill["scenario"] == "rank 1"]
    assert len(chosen) >= 8
    assert (chosen[-1]["rank0"], chosen[-1]["rank1"]) == (0, 0)
    for kill in chosen[:-1]:
        folder = Path(kill["folder"])
        assert kill["rank1"] == -9
        found, rejected = newest_valid(folder)
        assert not rejected, kill
        if kill["rank0"] == 0:  # rank 1 had delivered
            assert (found.images_seen, value_of(found)) == (200, 7), kill
        else:
            assert kill["rank0"] == 3, kill
            assert (found.images_seen, value_of(found)) == (100, 100), kill
        retry(folder, 200)
        assert entries(folder) == ["100", "200"], kill
    assert {kill["rank0"] for kill in chosen} == {0, 3}
