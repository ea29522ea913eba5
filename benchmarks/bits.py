"""The final weights of short runs from a fixed seed, as one hash each: do two commits compute the same bits?

A commit that moves or renames code must leave every hash as it is. Hashes can be compared on one kind of processor
and with one version of torch only, so both commits are run here, in one go:

    python -m benchmarks.bits                      # this working tree
    python -m benchmarks.bits main HEAD            # commits; exits 1 unless all their hashes agree
    python -m benchmarks.bits main . --only quick  # `.` is this working tree

Each commit trains its own recipes with its own code. The tensors of the last checkpoint (weights, averages, buffers,
optimiser states) are hashed in the order of their keys, with their keys, types and shapes; nothing else of a
checkpoint enters, neither names of classes nor how the tensors lie in files.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import MappingProxyType

from rich.table import Table

from benchmarks.report import command_line, show

ROOT = Path(__file__).parents[1]
WORKING_TREE = "."
RUNS: Mapping[str, tuple[int, str, int]] = MappingProxyType(
    {
        "quick start": (1, "sagan_fashion.py", 320),
        "quick start, 2 processes": (2, "sagan_fashion.py", 320),
        "StyleGAN2 with ADA": (1, "stylegan2_emoji.py", 320),
    }
)
"""The processes, the recipe, and the real images to train on (at batch 16) of each run, by name."""
FLAGS = ("--device", "cpu", "--workers", "0", "--tracking", "none", "--sample-every-images", "0")


def train(code: Path, out: Path, *, recipe: str, world: int, images_seen: int) -> Path:
    """The last checkpoint of a run with the code and the recipe of the working tree `code`, one thread a process.

    Raises:
        SystemExit: the run fails; shows the end of what it printed.
    """
    launcher = ["-m", "accelerate.commands.launch", "--config_file", str(code / "launch/accelerate/cpu_2.yaml")]
    command = [sys.executable, *(launcher if world == 2 else ()), str(code / "recipes" / recipe), *FLAGS]
    command += ["--images", str(images_seen), "--save-every-images", str(images_seen), "--out", str(out)]
    environment = os.environ | {"PYTHONPATH": str(code), "OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, cwd=code, env=environment, capture_output=True, text=True)
    if done.returncode:
        raise SystemExit(f"{' '.join(command)} failed:\n{(done.stdout + done.stderr)[-3000:]}")
    return out / "checkpoints" / str(images_seen)


def checkpoint_hash(checkpoint: Path) -> str:
    """SHA-256 over every tensor of a checkpoint: key, type, shape, values."""
    total = hashlib.sha256()
    for key, described in sorted(_tensors(checkpoint).items()):
        total.update(f"{key} {described}\n".encode())
    return total.hexdigest()


def _tensors(checkpoint: Path) -> dict[str, str]:
    """Type, shape and SHA-256 of the values of each tensor, by key; read without the code under test."""
    found: dict[str, str] = {}
    for file in sorted(checkpoint.glob("*.safetensors")):
        content = file.read_bytes()
        begin = 8 + int.from_bytes(content[:8], "little")
        for key, entry in json.loads(content[8:begin]).items():
            if key != "__metadata__":
                first, last = (begin + offset for offset in entry["data_offsets"])
                values = hashlib.sha256(content[first:last]).hexdigest()
                found[key] = f"{entry['dtype']} {entry['shape']} {values}"
    return found


@contextlib.contextmanager
def working_tree(commit: str) -> Iterator[Path]:
    """A folder with the files of a commit."""
    if commit == WORKING_TREE:
        yield ROOT
        return
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary) / "code"
        _git("worktree", "add", "--quiet", "--detach", str(folder), commit)
        try:
            yield folder
        finally:
            _git("worktree", "remove", "--force", str(folder))


def _git(*arguments: str) -> None:
    subprocess.run(["git", "-C", str(ROOT), *arguments], check=True)


def hashes(commit: str, *, only: str = "") -> dict[str, str]:
    """The hash of each run whose name contains `only`, by name."""
    found = {}
    with working_tree(commit) as code, tempfile.TemporaryDirectory() as folder:
        for name, (world, recipe, images) in RUNS.items():
            if only in name:
                out = Path(folder) / name.replace(" ", "_")
                found[name] = checkpoint_hash(train(code, out, recipe=recipe, world=world, images_seen=images))
    return found


def main() -> None:
    """Print the hashes of every commit."""
    parser = command_line(__doc__)
    parser.add_argument("commits", nargs="*", default=[WORKING_TREE], help="commits, or . for the working tree")
    parser.add_argument("--only", default="", help="runs whose name contains this")
    arguments = parser.parse_args()
    found = {commit: hashes(commit, only=arguments.only) for commit in arguments.commits}
    table = Table("run", *found, title="SHA-256 of the last checkpoint's tensors", min_width=40)
    first = next(iter(found.values()))
    for name in first:
        table.add_row(name, *(of[name][:16] for of in found.values()))
    show(found, table, as_json=arguments.json)
    if any(of != first for of in found.values()):
        raise SystemExit("the commits compute different bits")


if __name__ == "__main__":
    main()
