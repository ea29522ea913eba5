"""`python -m tests.fuzz --cases 5000`: damaged and hostile files for every reader of foreign bytes.

The only passes are: accepted (equal to the original where a digest stands over the bytes), or a `FrameworkError`,
within 2 seconds and 256 MB. Any other outcome is printed with the command that repeats it, and makes the exit status 1.
"""

from __future__ import annotations

import argparse
import collections
import sys
import tempfile
from pathlib import Path

import torch

from tests.fuzz import sandbox
from tests.fuzz.reader import Bench, Reader
from tests.fuzz.readers import READERS

_MOST_SHOWN = 3


def main() -> int:
    """Run what was asked for and print one line per reader."""
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz", description=__doc__)
    parser.add_argument("--cases", type=int, default=200, help="per reader")
    parser.add_argument("--first", type=int, default=0, help="number of the first case")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--reader", action="append", default=[], help="only readers whose name contains this")
    options = parser.parse_args()
    torch.set_num_threads(1)
    chosen = [reader for reader in READERS if not options.reader or any(text in reader.name for text in options.reader)]
    print(f"{'reader':32} {'cases':>6} {'named':>6} {'accepted':>8} {'failures':>8} {'worst s':>8} {'worst MB':>8}")
    failures = [fuzz(each, range(options.first, options.first + options.cases), seed=options.seed) for each in chosen]
    return 1 if sum(failures) else 0


def fuzz(reader: Reader, cases: range, *, seed: int) -> int:
    """Run the cases of one reader; the number of failures."""
    with tempfile.TemporaryDirectory(prefix="framework-fuzz-") as folder:
        bench = Bench(reader, Path(folder), seed=seed)
        outcomes = list(sandbox.run(cases, bench.one))
    assert len(outcomes) == len(cases)
    kinds = collections.Counter(outcome.kind for outcome in outcomes)
    failed = [outcome for outcome in outcomes if outcome.failed]
    seconds, num_bytes = max(each.seconds for each in outcomes), max(each.num_bytes for each in outcomes)
    print(
        f"{reader.name:32} {len(cases):6} {kinds['named']:6} {kinds['accepted']:8} {len(failed):8} {seconds:8.2f} "
        f"{num_bytes / 2**20:8.1f}",
        flush=True,
    )
    for one in failed[:_MOST_SHOWN]:
        print(f"  {one.kind}, {one.seconds:.2f} s, {one.num_bytes >> 20} MB: {one.text}")
        print(f"  python -m tests.fuzz --reader '{reader.name}' --first {one.case} --cases 1 --seed {seed}", flush=True)
    return len(failed)


if __name__ == "__main__":
    sys.exit(main())
