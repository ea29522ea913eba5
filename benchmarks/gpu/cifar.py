"""StyleGAN2 on CIFAR-10 by the product's own command, with FID by its own evaluator: about one point a minute."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import torch

from benchmarks.gpu.findings import Finding
from benchmarks.gpu.job import Job, release
from benchmarks.gpu.play import Play
from benchmarks.recipes import FOLDER, load_recipe
from framework.tracking.records import JOURNAL_NAME, read_journal

RECIPE = "stylegan2_cifar10"
CLOSE_SECONDS = 20
"""Time for the last checkpoint after SIGTERM."""
POLL_SECONDS = 1.0
POINT_SECONDS = 60


@dataclass(frozen=True, kw_only=True)
class Setting:
    """What is trained."""

    batch_size: int = 256
    metric: str = "fid10k"
    extractor: str | None = None
    """None: FID's Inception, from the given weights."""
    precision: str = "bf16"
    workers: int = 8
    evaluate_every_images: int | None = None
    """None: as many as it trains on in `POINT_SECONDS`, measured first."""
    more: tuple[str, ...] = ()
    """Further flags."""


REHEARSED = Setting(
    batch_size=8,
    metric="fd16",
    extractor="fashion_classifier",
    workers=1,
    evaluate_every_images=16,
    more=(
        "--images",
        "16",
        *(f"--set={side}.network.channel_base=128" for side in ("generator", "discriminator")),
    ),
)


def cifar(job: Job) -> None:
    """A finding per point, with the seconds since the run began, and one with the last lines of its log."""
    shards, weights = job.inputs.cifar, job.inputs.inception
    if shards is None or (weights is None and not job.rehearsal):
        missing = "--cifar FOLDER (shards)" if shards is None else "--inception FILE (weights, fp32)"
        job.findings.add(skipped=f"give {missing}; `python -m benchmarks.gpu.pack` prepares both")
        return
    setting = REHEARSED if job.rehearsal else Setting()
    every = setting.evaluate_every_images or _images_in(POINT_SECONDS, setting, device=job.device)
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "run"
        flags = command(setting, shards=shards, weights=weights, out=out, device=job.device, every_images=every)
        with (Path(folder) / "log").open("w") as log:
            process = subprocess.Popen(flags, stdout=log, stderr=subprocess.STDOUT, env=_environment())
        told = 0
        for _ in lasting(process, seconds=job.seconds_left() - CLOSE_SECONDS):
            found = list(points(out))
            for point in found[told:]:
                job.findings.add(**point)
            told = len(found)
        end = (Path(folder) / "log").read_text()[-1500:]
    # SIGTERM at the deadline is the expected end: the run saves, and says so by its status.
    job.findings.add(evaluate_every_images=every, status=process.returncode, log=end, ok=told > 0)


def command(
    setting: Setting, *, shards: Path, weights: Path | None, out: Path, device: torch.device, every_images: int
) -> list[str]:
    """The command line; unconditional whatever the shards' labels."""
    flags = {
        "--data": shards,
        "--out": out,
        "--device": device.type,
        "--precision": setting.precision,
        "--tracking": "none",
        "--batch-size": setting.batch_size,
        "--workers": setting.workers,
        "--save-every-images": "100M",
        "--sample-every-images": "100M",
        "--log-every-images": "20k",
        "--eval-every-images": every_images,
        "--eval-metrics": setting.metric,
        "--set": "data.classes=0",
    }
    if setting.extractor is not None:
        flags["--eval-extractor"] = setting.extractor
    elif weights is not None:
        flags["--eval-extractor-weights"] = weights
    given = [str(word) for pair in flags.items() for word in pair]
    return [sys.executable, str(FOLDER / f"{RECIPE}.py"), *given, *setting.more]


def points(out: Path) -> Iterator[Finding]:
    """The distances in a run's journal."""
    if not (out / JOURNAL_NAME).exists():
        return
    began: int | None = None
    for _, record in read_journal(out / JOURNAL_NAME):
        began = record["time_ms"] if began is None else began
        values = record.get("values", {}) if record["kind"] == "metrics" else {}
        for name, value in values.items():
            if name.startswith(("metrics/fid", "metrics/fd")):
                seconds = (record["time_ms"] - began) / 1000
                yield {"images": record["images"], "seconds": round(seconds, 1), "metric": name, "value": value}


def _images_in(seconds: float, setting: Setting, *, device: torch.device) -> int:
    """How many it trains on; whole batches."""
    play = Play(load_recipe(RECIPE), batch_size=setting.batch_size, device=device, precision="bf16")
    pace = play.pace(steps=16, warm_up=3)["images_per_s"]
    del play
    release(device)
    return max(1, round(seconds * pace / setting.batch_size)) * setting.batch_size


def lasting(process: subprocess.Popen[bytes], *, seconds: float) -> Iterator[None]:
    """Come back about every second until the process has ended, and once more then.

    After `seconds` it gets SIGTERM, on which a run saves; if it has not ended `CLOSE_SECONDS` later, SIGKILL.
    """
    deadline, asked = time.monotonic() + seconds, False
    while process.poll() is None:
        time.sleep(POLL_SECONDS)
        if time.monotonic() > deadline + CLOSE_SECONDS:
            process.kill()
            process.wait()
        elif time.monotonic() > deadline and not asked:
            process.send_signal(signal.SIGTERM)
            asked = True
        yield


def _environment() -> dict[str, str]:
    """The product comes from here, whatever is installed."""
    before = os.environ.get("PYTHONPATH")
    return os.environ | {"PYTHONPATH": f"{FOLDER.parent}:{before}" if before else str(FOLDER.parent)}
