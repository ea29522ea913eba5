"""What evaluation reads besides data sets: cached statistics, arrays of images, and pictures."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

from framework.evaluation import statistics
from framework.evaluation.images import ArrayImages, FolderImages
from tests.fuzz.reader import Reader, Target

logging.getLogger("framework").setLevel(logging.ERROR)


def _moments(folder: Path) -> None:
    tensors = {"count": torch.tensor([9]), "sum": torch.ones(1, 4).double(), "outer": torch.ones(1, 4, 4).double()}
    statistics.write(folder / "a.safetensors", tensors, about={"piece": "moments-9"})


def _arrays(folder: Path) -> None:
    images = np.random.default_rng(0).integers(0, 256, (6, 8, 8, 3), dtype=np.uint8)
    np.savez_compressed(folder / "a.npz", images=images, labels=np.arange(6))


def _pictures(folder: Path) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (24, 24, 3), dtype=np.uint8)
    for name in ("a.png", "b.jpg", "c.webp"):
        Image.fromarray(pixels).save(folder / name)


def _all(images: Any) -> Any:
    return [part.images for part in images.parts(count=images.count, rank=0, world=1)]


READERS = (
    Reader(
        name="statistics cache",
        make=_moments,
        read=lambda folder: sorted(statistics.read(folder / "a.safetensors", "moments-9") or {}),
        targets=(Target(path="a.safetensors"),),
    ),
    Reader(
        name="images in .npz",
        make=_arrays,
        read=lambda folder: _all(ArrayImages(folder / "a.npz")),
        targets=(Target(path="a.npz"),),
    ),
    Reader(
        name="folder of pictures",
        make=_pictures,
        read=lambda folder: _all(FolderImages(folder)),
        targets=tuple(Target(path=name) for name in ("a.png", "b.jpg", "c.webp")),
    ),
)
