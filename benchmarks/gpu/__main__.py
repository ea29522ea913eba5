"""Everything about a GPU in one session of some ten minutes, on a machine with a GPU and no internet.

    python -m benchmarks.gpu --out runs/gpu                          # 8 minutes: all that needs no data
    python -m benchmarks.gpu --out runs/gpu --only cifar --cifar FOLDER --inception FILE
    python -m benchmarks.gpu --out runs/gpu --only peer --peer FOLDER-OF-STYLEGAN3
    python -m benchmarks.gpu --out /tmp/rehearsal --device cpu       # the same at tiny sizes
    python -m benchmarks.gpu.keep runs/gpu                           # results into benchmarks/results/gpu/<card>/

Each item is a process of its own with a budget of seconds, killed with all it started 15 s after it is over. A finding
is one JSON line in OUT/<item>.jsonl, written at once; what an item printed is in OUT/<item>.log. An item that runs
again in the same folder replaces its findings. `--scale 0.5` halves all budgets: parts without time left say so.
Neither MLflow nor DeepSpeed is needed. What to carry to such a machine: `python -m benchmarks.gpu.pack --help`.

Exit status: 0 when every chosen item ended by itself, and nothing in it failed.
"""

from __future__ import annotations

import argparse
import dataclasses
import signal
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from types import FrameType

import torch
from rich.table import Table

from benchmarks.gpu.findings import Findings
from benchmarks.gpu.items import ITEMS, Item
from benchmarks.gpu.job import Inputs, Job
from benchmarks.gpu.supervise import GOOD, Ended, supervise
from benchmarks.report import command_line, show

INPUTS = tuple(field.name for field in dataclasses.fields(Inputs))


def main() -> int:
    """Run the chosen items, or with `--item` be one."""
    arguments = parse()
    device = arguments.device
    if device == "auto":
        device = "cuda" if torch.cuda.is_available() else "cpu"
    chosen = [item for item in ITEMS if item.name in arguments.only]
    if arguments.item is not None:
        (item,) = (item for item in ITEMS if item.name == arguments.item)
        return play(item, arguments, device=device)
    signal.signal(signal.SIGTERM, _stop)  # so that the item under way is killed, too
    arguments.out.mkdir(parents=True, exist_ok=True)
    ended = []
    for item in chosen:
        budget = item.budget_seconds * arguments.scale
        command = [sys.executable, "-m", "benchmarks.gpu", "--item", item.name, *_passed_on(arguments, device=device)]
        ended.append(supervise(item.name, command, out=arguments.out, budget_seconds=budget))
        print(f"{item.name}: {ended[-1].state}, {ended[-1].seconds} s", file=sys.stderr, flush=True)
    show([dataclasses.asdict(one) for one in ended], table(ended), as_json=arguments.json, width=120)
    return 0 if all(one.state in GOOD for one in ended) else 1


def play(item: Item, arguments: argparse.Namespace, *, device: str) -> int:
    """Be an item's process: exit status 1 if anything failed."""
    job = Job(
        device=torch.device(device),
        deadline=time.monotonic() + item.budget_seconds * arguments.scale,
        findings=Findings(arguments.out, item=item.name),
        inputs=Inputs(**{name: getattr(arguments, name) for name in INPUTS}),
    )
    with job.part():
        item.run(job)
    return 1 if job.findings.failures else 0


def table(ended: list[Ended]) -> Table:
    """One row per item."""
    questions = {item.name: item.question for item in ITEMS}
    shown = Table("item", "state", "seconds", "of", "findings", "failures", "question", title="GPU session")
    for one in ended:
        state = f"{one.state} ({one.status})" if one.state == "crashed" else one.state
        numbers = (f"{one.seconds:.0f}", f"{one.budget_seconds:.0f}", str(one.findings), str(one.failures))
        shown.add_row(one.item, state, *numbers, questions[one.item])
    return shown


def parse() -> argparse.Namespace:
    """The command line."""
    names = [item.name for item in ITEMS]
    parser = command_line(__doc__)
    parser.add_argument("--out", type=Path, required=True, help="folder of the findings")
    parser.add_argument("--device", choices=("auto", "cuda", "cpu"), default="auto")
    parser.add_argument("--only", type=_items, default=names, metavar="ITEM,...", help=f"of: {', '.join(names)}")
    parser.add_argument("--scale", type=float, default=1.0, help="factor on all budgets")
    parser.add_argument("--peer", type=Path, help="checkout of NVlabs/stylegan3")
    parser.add_argument("--cifar", type=Path, help="CIFAR-10 as shards")
    parser.add_argument("--inception", type=Path, help="weights of FID's Inception, fp32")
    parser.add_argument("--item", choices=names, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.device == "cuda" and not torch.cuda.is_available():
        parser.error("--device cuda: no CUDA device is visible; `--device cpu` rehearses")
    for name in INPUTS:
        path = getattr(arguments, name)
        if path is not None and not path.exists():
            parser.error(f"--{name} {path}: there is no such file or folder")
    return arguments


def _items(text: str) -> list[str]:
    names = text.split(",")
    known = [item.name for item in ITEMS]
    for name in names:
        if name not in known:
            raise argparse.ArgumentTypeError(f"there is no item {name!r}; there are: {', '.join(known)}")
    return names


def _passed_on(arguments: argparse.Namespace, *, device: str) -> Iterator[str]:
    """The flags that an item's process needs."""
    given = {"out": arguments.out, "device": device, "scale": arguments.scale}
    given |= {name: getattr(arguments, name) for name in INPUTS}
    for name, value in given.items():
        if value is not None:
            yield from (f"--{name}", str(value))


def _stop(number: int, frame: FrameType | None) -> None:
    sys.exit(128 + number)


if __name__ == "__main__":
    sys.exit(main())
