"""The tiny SAGAN on a shared file system that shows other processes' files late (see tests/helpers/late_disk.py)."""

import os
import sys
from pathlib import Path

from framework import launch
from tests.helpers.late_disk import LateDisk
from tests.recipes.tiny_sagan import RECIPE

if __name__ == "__main__":
    out, rank = Path(sys.argv[sys.argv.index("--out") + 1]), os.environ["RANK"]
    # Rank 0 has looked at the folder all along; the others, as on other machines, find nothing there at first.
    disk = LateDisk(out.resolve() / "checkpoints", seconds=float(os.environ["LATE_SECONDS"]), known=rank == "0")
    disk.install()
    launch(RECIPE)
    print(f"rank {rank}: {disk.num_hidden} times something was there and not seen yet")
