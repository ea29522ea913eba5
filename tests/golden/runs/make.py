"""Make run folders with the code of an earlier commit: `python -m tests.golden.runs.make`, in a clone with its history.

The recipes that are trained are `COMMIT/NAME/recipe.txt`, in the words of that commit (the Python files in this folder
are the same recipes in today's words). Of a run are kept: its checkpoint, its journal and its resolved recipe, and
`samples.npz`, the 8-bit images that `framework sample` drew from it. `COMMIT/made.json` says with what all of it was
made, and holds a hash over the tensors of the checkpoint to which the same commit continued a copy of the run.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path
from tempfile import TemporaryDirectory

from benchmarks.bits import checkpoint_hash, working_tree
from tests.helpers.processor import processor

COMMIT = "96afc54"
FOLDER = Path(__file__).parent / COMMIT
SAVED, CONTINUED = 64, 96
"""Images seen at the checkpoint that is kept, and where the copy of the run ends."""
EVALUATED = ("--eval-every-images", "64", "--eval-metrics", "fd50", "--eval-extractor", "fashion_classifier")
FLAGS: dict[str, tuple[str, ...]] = {"sagan": EVALUATED, "stylegan2": (), "progan": ()}
"""Of each run, besides those that all of them have."""
SHARED_FLAGS = ("--device", "cpu", "--workers", "0", "--keep-last", "1", "--tracking", "none")
SAMPLE = ("--grid", "5x4", "--seed", "1", "--count", "20")
KEPT = ("checkpoints", "journal.jsonl", "recipe.json", "recipe.txt", "samples.npz")


def flags(name: str, *, images_seen: int) -> list[str]:
    """The flags of a run that ends after `images_seen` images."""
    return [*FLAGS[name], *SHARED_FLAGS, "--save-every-images", str(SAVED), "--images", str(images_seen)]


def main() -> None:
    """Train, sample and continue every run with the code of `COMMIT`, and write the folder of that name."""
    continued = {}
    with working_tree(COMMIT) as code, TemporaryDirectory() as temporary:
        for name in FLAGS:
            out = Path(temporary) / name
            recipe = code / "tests" / "golden" / "runs" / f"{name}.py"  # as deep as here: it names its data by a path
            recipe.parent.mkdir(exist_ok=True)
            shutil.copy(FOLDER / name / "recipe.txt", recipe)
            _run(code, str(recipe), *flags(name, images_seen=SAVED), "--out", str(out))
            picture, arrays = str(out / "samples.png"), str(out / "samples.npz")
            _run(code, "-m", "framework", "sample", str(out), *SAMPLE, "--out", picture, "--npz", arrays)
            copy = Path(temporary) / f"{name}-continued"
            shutil.copytree(out, copy)
            _run(code, str(recipe), *flags(name, images_seen=CONTINUED), "--out", str(copy))
            continued[name] = checkpoint_hash(copy / "checkpoints" / str(CONTINUED))
            shutil.copy(recipe, out / "recipe.txt")
            shutil.rmtree(FOLDER / name)
            (FOLDER / name).mkdir()
            for kept in KEPT:
                (shutil.copytree if (out / kept).is_dir() else shutil.copy)(out / kept, FOLDER / name / kept)
    made = {
        "commit": COMMIT,
        "processor": processor(),
        "versions": {name: version(name) for name in ("torch", "numpy", "pillow")} | {"python": sys.version.split()[0]},
        "continued": continued,
    }
    (FOLDER / "made.json").write_text(json.dumps(made, indent=1) + "\n")


def _run(code: Path, *arguments: str) -> None:
    environment = os.environ | {"PYTHONPATH": str(code), "OMP_NUM_THREADS": "1", "LOGNAME": "framework"}
    subprocess.run([sys.executable, *arguments], cwd=code, env=environment, check=True)


if __name__ == "__main__":
    main()
