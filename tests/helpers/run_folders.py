"""Run folders as training leaves them, written by the real tracker and the real checkpoint writer, without training."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch

from framework.checkpoint import Retention, TensorSlice, Writer
from framework.media import Media, Page, PictureGrid, Plot, Scatter, Sounds
from framework.tracking import Tracker

RECIPE = {"type": "Recipe", "name": "tiny", "paper": "none: a test", "images": 640, "batch_size": 16, "seed": 0}
FID = {"metric": "fid", "extractor": {"name": "inception", "resize": "lanczos"}, "hash": "1a2b3c4d"}
OTHER_FID = {"metric": "fid", "extractor": {"name": "inception", "resize": "box"}, "hash": "5e6f7a8b"}


def write_run(
    folder: Path,
    *,
    uri: str | None = None,
    name: str | None = None,
    steps: Iterable[int] = range(40, 641, 40),
    grids: Iterable[int] = (0, 320, 640),
    checkpoints: Iterable[int] = (320, 640),
    recipe: Mapping[str, Any] = RECIPE,
    status: str | None = "FINISHED",
    offset: float = 0.0,
) -> Tracker:
    """A run of one launch; `status` None leaves the tracker open. Losses are `offset` + images / 100 and so on."""
    tracker = Tracker.open(folder, uri=uri, experiment="tiny", run_name=name or folder.name)
    (folder / "recipe.json").write_text(json.dumps(recipe))
    tracker.params({"engine": "ddp", "precision": "fp32"})
    tracker.tags({"framework.git_commit": "0123456789abcdef0123", "framework.data_fingerprint": "d" * 64})
    tracker.dataset("shapes", digest="d" * 64, location="https://me:pw@store/shapes?sig=x", profile={"count": 100})
    tracker.image("samples/real", picture(99), images_seen=0)
    for images in sorted({*steps, *grids}):
        if images in grids:
            tracker.image("samples/ema", picture(images), images_seen=images)
        if images in steps:
            tracker.metrics(
                {
                    "loss/D": offset + images / 100,
                    "loss/G": offset - images / 100,
                    "lr/G": 1e-3,
                    "perf/images_per_second": 9,
                },
                images_seen=images,
            )
    write_checkpoints(folder, checkpoints)
    if status is not None:
        tracker.finish(status, wait_seconds=120)
    return tracker


def show_all_kinds(tracker: Tracker, *, images_seen: int, page: str = "<!doctype html><p>a page</p>") -> None:
    """One of each kind of media, under `samples/pairs`, `ring`, `speech` and `table`; clips grow with the clock."""
    random = np.random.default_rng(images_seen)
    pictures = random.integers(0, 256, (3, 1, 8, 12), dtype=np.uint8)
    angles = random.integers(0, 8, (2, 100)) * np.pi / 4
    real, generated = np.stack([np.cos(angles), np.sin(angles)], axis=-1)
    times = np.arange(4000 + images_seen) / 8000
    tones = np.stack([np.sin(2 * np.pi * hertz * times) * (1 - times) for hertz in (220, 330)])
    shown: dict[str, Media] = {
        "pairs": PictureGrid.of_columns({"input": pictures, "output": 255 - pictures}, scale=4, title="pairs"),
        "ring": Plot([Scatter(real, label="real"), Scatter(generated, label="generated")], title="Ring"),
        "speech": Sounds(tones, sample_rate=8000, captions=["low", "high"], title="Held-out tones"),
        "table": Page(page, title="a table of neighbours"),
    }
    for name, media in shown.items():
        tracker.show(f"samples/{name}", media, images_seen=images_seen)
    tracker.flush(wait_seconds=60)


def write_checkpoints(folder: Path, clocks: Iterable[int], *, keep: int | None = None) -> None:
    """Real checkpoints of a player with one weight; `keep` the newest so many."""
    retention = Retention(last=keep)
    with Writer(folder / "checkpoints", rank=0, world=1, token="t", retention=retention) as writer:
        for images in clocks:
            slices = [
                TensorSlice(key=f"generator/{kind}/w", start=0, values=torch.full((4,), float(images)), shape=(4,))
                for kind in ("weight", "ema")
            ]
            record = {"data": {"fingerprint": "d" * 64, "count": 100}}
            writer.save(images, slices, documents={"recipe.json": {"images": 640}}, record=record)
            writer.wait()


def write_scores(folder: Path, images_seen: int, records: Mapping[str, Any]) -> None:
    """What evaluation leaves beside a checkpoint."""
    (folder / "checkpoints" / str(images_seen) / "scores.json").write_text(json.dumps(records))


def fid(value: float, protocol: Mapping[str, Any] = FID) -> dict[str, Any]:
    """A record as `framework.evaluation` writes it."""
    return {"value": value, "protocol": dict(protocol), "series": f"metrics/fid50k-{protocol['hash']}"}


def picture(number: int) -> np.ndarray:
    """A small image unlike those of other numbers."""
    return np.random.default_rng(number).integers(0, 256, (40, 60, 3), dtype=np.uint8)
