"""The record of a checkpoint: signed by whoever wrote it, and taken up by a resume."""

from __future__ import annotations

import json
from pathlib import Path
from random import Random
from typing import Any

import torch

from framework.checkpoint import Checkpoint, Retention, Writer
from framework.engines.precision import LossScale
from framework.runtime.straggling import StepTimer
from framework.sentinels import SENTINELS, Baselines, Health, SentinelStates
from framework.train.health import Recovery
from framework.train.loop import Window
from framework.train.memory import MicroBatching
from framework.train.metric_history import MetricHistory
from framework.train.record_check import check_record
from tests.fuzz.mutation import json_edited, signed
from tests.fuzz.reader import Reader, Target

_CPU = torch.device("cpu")

RECORD: dict[str, Any] = {
    "players": {
        side: {
            "steps_taken": 4,
            "engine_state": {"loss_scale": 65536.0, "good_steps": 3.0},
            "memory": {"path_length": 0.25},
        }
        for side in ("generator", "discriminator")
    },
    "draws_version": 2,
    "skipped_steps": 1,
    "skipped_samples": 2.0,
    "window": {"steps": 2, "scores": {"loss/D": [["0x1.8p+0", "0x1.0p+1"], ["inf", "0x1.0p+1"]]}},
    "science_hash": "ab12",
    "data": {"fingerprint": "cd34", "count": 60_000},
    "cut": {"world": 2, "micro_batches": 1},
    "health": {
        "watch": {
            "sign_real": {
                "health": 1, "run_level": 2, "run_length": 1, "run_onset": 16, "last_images": 32, "onset": 16
            }
        },
        "baselines": {"logit_gap": [0.5, 0.25]},
        "real": {"32": {"0": 0.5, "1": 0.25}},
        "since_last_look": {"steps": 2, "skipped_before": 1, "sums": {"loss/D": [1.5, 2]}, "distance_growth": None},
    },
    "rollbacks": [{"from_images": 64, "to_images": 32, "reason": "collapse"}],
    "evaluation": {
        "scores": ["fid50k-1a2b3c4d"],
        "best": {"metrics/fid50k-1a2b3c4d": [32, 12.5]},
        "latest": {"metrics/fid50k-1a2b3c4d": [64, 13.5]},
    },
}  # fmt: skip
"""As a run writes it."""


def _make(folder: Path) -> None:
    with Writer(folder, rank=0, world=1, token="t", retention=Retention(last=None)) as writer:
        writer.save(64, [], documents={}, record=RECORD)
        writer.wait()


def _edited(random: Random, data: bytes) -> bytes:
    """The record edited, and the manifest signed anew."""
    content = json.loads(data)
    try:
        record = json.loads(json_edited(random, json.dumps(content["record"]).encode()))
    except (ValueError, RecursionError):
        return data
    return signed(json.dumps(content | {"record": record}).encode())


def _taken_up(folder: Path) -> Any:
    """Everything that a resume does with it and that needs no network."""
    checkpoint = Checkpoint.open(folder / "64")
    check_record(checkpoint, players=("generator", "discriminator"))
    record = checkpoint.record
    for small in (record["players"][side] for side in ("generator", "discriminator")):
        float(small["steps_taken"])
        LossScale("fp16").load_state(small["engine_state"])
        [float(value) for value in small.get("memory", {}).values()]
    if record.get("cut"):
        MicroBatching(**record["cut"])
    recovery = Recovery.restored(record.get("rollbacks", ()))
    assert 0 <= recovery.lr_factor <= 1
    assert recovery.shift_images >= 0
    window = Window(timer=StepTimer(_CPU))
    window.restore(record.get("window", {}), rank=0, world=1)
    window.metrics.means(device=_CPU)
    health = record.get("health", {})
    watch = SentinelStates(SENTINELS, total_images=1000, step_images=8)
    watch.load_state(health.get("watch", {}))
    assert watch.health in Health
    watch.observe(500, {sentinel.signal: 0.0 for sentinel in SENTINELS})
    baselines = Baselines()
    baselines.load_state(health.get("baselines", {}))
    baselines.growth("logit_gap", 1.0)
    standing = MetricHistory()
    standing.load_state(record.get("evaluation") or {})
    standing.growth("fid50k")
    return f"{record['data']['count']:,} {record['data']['fingerprint'][:12]} {record['science_hash']}".encode() != b""


READERS = (
    Reader(
        name="record of a checkpoint",
        make=_make,
        read=_taken_up,
        targets=(Target(path="64/manifest.json", mutators=(_edited,)),),
    ),
)
