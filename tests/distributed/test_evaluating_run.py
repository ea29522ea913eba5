"""Evaluations inside runs on two processes: the weights stay the same bits, and a fault of one process strands none."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.distributed as dist
from torch import Tensor

from framework.runtime.session import Session
from framework.train.config import RunConfig
from framework.train.trainer import run
from tests.helpers.damage import damaged_copy
from tests.helpers.journals import evaluations
from tests.helpers.launch import tensors, unequal
from tests.helpers.spawn import run_ranks
from tests.recipes.smooth import RECIPE

pytestmark = [pytest.mark.distributed, pytest.mark.timeout(300)]

ENGINES = ("ddp", "fsdp2")
"""A replicated and a sharded one."""
EVERY, IMAGES, METRICS = 48, 128, "fd60,fd_by_class90"
NAME = "fd_fashion_classifier_60"


def train(out: Path, data: str, *, evaluated: bool = True, images: int = IMAGES, **flags: Any) -> None:
    rank, world = (dist.get_rank(), dist.get_world_size()) if dist.is_initialized() else (0, 1)
    session = Session(rank=rank, world=world, local_rank=rank, device=torch.device("cpu"), local_world=world)
    light = {"eval_every_images": EVERY, "eval_metrics": METRICS, "eval_extractor": "fashion_classifier"}
    settings = {"tracking": "none", "workers": 0, "log_every_images": 80, "save_every_images": 80, "keep_last": 9}
    config = RunConfig(out=out, images=images, **(settings | (light if evaluated else {}) | flags))
    run(replace(RECIPE, images=images), config, session=session, data=data)


def worker(folder: str, good: str, damaged: str) -> dict[str, Tensor]:
    """All runs one after another; the parent looks at what they left."""
    out = Path(folder)
    for engine in ENGINES:
        train(out / f"{engine}-plain", good, engine=engine, evaluated=False)
        train(out / f"{engine}-judged", good, engine=engine)
    train(out / "resumed", good, engine="fsdp2", images=96)
    train(out / "resumed", good, engine="fsdp2")
    # Another cache: with the statistics of the real images in it, no picture would be read.
    os.environ["XDG_CACHE_HOME"] = str(out / "nothing")
    train(out / "damaged", damaged if dist.get_rank() == 1 else good, engine="fsdp2")
    return {}


def test_runs_with_evaluations_are_the_runs_without(
    tiny_data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    damaged = damaged_copy(tiny_data, tmp_path / "damaged-shards", recipe=RECIPE, unread_images=700)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    run_ranks(worker, 2, str(tmp_path), str(tiny_data), str(damaged))
    final = f"checkpoints/{IMAGES}"
    train(tmp_path / "alone", str(tiny_data))
    alone = dict(evaluations(tmp_path / "alone"))
    assert sorted(alone) == [48, 96, 128]
    for engine in ENGINES:
        plain, judged = (tmp_path / f"{engine}-{kind}" for kind in ("plain", "judged"))
        differing, count = unequal(plain / final, judged / final), len(tensors(plain / final))
        print(f"{engine}, 2 processes, 3 evaluations: {count - len(differing)} of {count} tensors equal to the bit")
        assert differing == []
        found = dict(evaluations(judged))
        assert sorted(found) == sorted(alone)
        difference = max(abs(found[at][NAME]["value"] / alone[at][NAME]["value"] - 1) for at in alone)
        hashes = {found[at][NAME]["protocol"]["hash"] for at in found}
        print(f"{engine}: relative difference of 3 distances to those of a run on one process {difference:.1e}")
        # Weights of one and two processes agree to 1e-5 (tests/system/test_resume.py): less than one pixel in 500 is
        # rounded to the neighbouring one of 255 values.
        assert difference < 1e-3
        assert hashes == {alone[48][NAME]["protocol"]["hash"]}
    assert unequal(tmp_path / "resumed" / final, tmp_path / "fsdp2-judged" / final) == []
    resumed = dict(evaluations(tmp_path / "resumed"))
    assert [(at, one[NAME]["value"]) for at, one in resumed.items()] == [
        (at, one[NAME]["value"]) for at, one in dict(evaluations(tmp_path / "fsdp2-judged")).items()
    ]
    assert unequal(tmp_path / "damaged" / final, tmp_path / "fsdp2-plain" / final) == []
    missing = {one[NAME]["missing"] for one in dict(evaluations(tmp_path / "damaged")).values()}
    assert missing == {"rank 0: 1 other rank(s) failed to read their images; their message says why"}
