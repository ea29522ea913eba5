"""Make of the folders of `python -m benchmarks.gpu.pack` what the items read, on a machine without internet.

    python -m benchmarks.gpu.unpack FOLDER [FOLDER ...] --out runs/gpu-data

OUT/cifar10: shards of the mosaics that are there (some are enough). OUT/inception.safetensors: the weights in fp32
again, rounded as fp16 had them.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image
from safetensors.numpy import load_file, save_file

from benchmarks.gpu.mosaic import pictures
from benchmarks.gpu.pack import CIFAR, INCEPTION, SIDE
from framework.data.pack import pack
from framework.utils.errors import FrameworkError

CLASS_NAMES = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")


def main() -> None:
    """Restore what is there, and say what."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folders", type=Path, nargs="+", metavar="FOLDER")
    parser.add_argument("--out", type=Path, required=True)
    arguments = parser.parse_args()
    try:
        for made in unpack(arguments.folders, arguments.out):
            print(made)
    except FrameworkError as error:
        sys.exit(f"unpack: {error}")


def unpack(folders: Sequence[Path], out: Path) -> list[Path]:
    """What was made.

    Raises:
        FrameworkError: neither weights nor mosaics in any of the folders, or a mosaic without its labels.
    """
    files = [path for folder in folders for path in sorted(folder.glob("*"))]
    weights = [path for path in files if path.name == INCEPTION]
    mosaics = [path for path in files if path.match(f"{CIFAR}-*.webp")]
    if not weights and not mosaics:
        raise FrameworkError(f"there is no {INCEPTION} and no {CIFAR}-*.webp in {', '.join(map(str, folders))}")
    out.mkdir(parents=True, exist_ok=True)
    made = [widened(weights[0], out / "inception.safetensors")] if weights else []
    if mosaics:
        made.append(shards(sorted(mosaics, key=lambda path: path.name), out))
    return made


def widened(source: Path, target: Path) -> Path:
    """Weights in fp32."""
    save_file({name: values.astype(np.float32) for name, values in load_file(source).items()}, target)
    return target


def shards(mosaics: Sequence[Path], out: Path) -> Path:
    """The data set of the mosaics' pictures, as `framework pack` makes it."""
    Image.MAX_IMAGE_PIXELS = None
    for path in mosaics:
        if not path.with_suffix(".json").is_file():
            raise FrameworkError(f"{path}: its labels {path.stem}.json are not beside it")
    images = np.concatenate([pictures(Image.open(path), side=SIDE) for path in mosaics])
    labels = np.concatenate([json.loads(path.with_suffix(".json").read_text()) for path in mosaics])
    arrays = out / f"{CIFAR}.npz"
    np.savez(arrays, images=images, labels=labels)
    pack(arrays, out / CIFAR, name=CIFAR, class_names=CLASS_NAMES, shard_samples=10_000, overwrite=True, progress=False)
    return out / CIFAR


if __name__ == "__main__":
    main()
