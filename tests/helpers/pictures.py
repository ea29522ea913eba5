"""Small pictures to pack in tests, and what plain WebDataset reads from the result."""

import gc
import io
import warnings
from pathlib import Path

import numpy as np
import webdataset
from PIL import Image

from framework.data.manifest import Manifest, file_sha256
from framework.data.pack import pack


def make_folder(
    root: Path, *, per_class: int = 8, classes: tuple[str, ...] = ("ant", "bee", "cat"), side: int = 20
) -> Path:
    """Noise pictures, PNG and JPEG in turn, in class folders; not square, so that packing has to crop."""
    generator = np.random.default_rng(5)
    for name in classes:
        (root / name).mkdir(parents=True)
        for number in range(per_class):
            pixels = generator.integers(0, 256, (side, side + 4, 3), dtype=np.uint8)
            Image.fromarray(pixels).save(root / name / f"{number:03d}.{'png' if number % 2 else 'jpg'}")
    return root


def make_npz(path: Path, *, count: int = 40, side: int = 8, classes: int = 4) -> tuple[np.ndarray, np.ndarray]:
    generator = np.random.default_rng(7)
    images = generator.integers(0, 256, (count, side, side, 3), dtype=np.uint8)
    labels = np.arange(count) % classes
    np.savez(path, images=images, labels=labels)
    return images, labels


def hashes(folder: Path) -> dict[str, str]:
    return {str(f.relative_to(folder)): file_sha256(f) for f in sorted(folder.rglob("*")) if f.is_file()}


def read_samples(folder: Path, extension: str = "png") -> list[tuple[str, int | None, np.ndarray]]:
    """(key, label, pixels) of every sample, by plain WebDataset."""
    urls = [str(path) for path in sorted(folder.glob("*.tar"))]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ResourceWarning)  # WebDataset leaves its files to the garbage collector
        samples = list(webdataset.WebDataset(urls, shardshuffle=False))
        gc.collect()
    return [
        (s["__key__"], int(s["cls"]) if "cls" in s else None, np.asarray(Image.open(io.BytesIO(s[extension]))))
        for s in samples
    ]


def pack_quietly(source: Path, out: Path, **options) -> Manifest:
    return pack(source, out, progress=False, **options)
