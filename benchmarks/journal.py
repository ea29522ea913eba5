"""What tracking costs a training step: `python benchmarks/journal.py`.

Two measurements of one record of 20 metrics: in a tight loop (warm caches), and between steps that use the processor
as training does, with the upload process at work on the same machine. The share of a step is what counts; the goal is
at most 0.5 %. Medians, because on a shared machine the mean tells about the neighbours.
"""

import argparse
import statistics
import tempfile
import time
from pathlib import Path

import numpy as np

from framework.tracking import Tracker

NUM_METRICS = 20
GRID_PIXELS = 530


def main() -> None:
    """Measure and print one line per case."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--step-milliseconds", type=float, default=100.0)
    parser.add_argument("--steps", type=int, default=150)
    options = parser.parse_args()
    step_seconds = options.step_milliseconds / 1000
    print(f"one record of {NUM_METRICS} metrics, against a step of {options.step_milliseconds:.0f} ms:")
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        tight = records(folder / "tight", uri=None, num_steps=20_000, step_seconds=0.0)
        report("tight loop", tight, step_seconds=step_seconds)
        for label, uri in (("between steps", None), ("with upload to sqlite", f"sqlite:///{folder}/mlflow.db")):
            times = records(
                folder / label.replace(" ", "-"), uri=uri, num_steps=options.steps, step_seconds=step_seconds
            )
            report(label, times, step_seconds=step_seconds)
        report(f"image of {GRID_PIXELS} px", images(folder / "images", num=20), step_seconds=step_seconds)
        scan(folder / "tight")


def records(folder: Path, *, uri: str | None, num_steps: int, step_seconds: float) -> list[float]:
    """Return the seconds of each `metrics` call."""
    tracker = Tracker.open(folder, uri=uri, experiment="benchmark", run_name=folder.name)
    values = np.random.default_rng(0).normal(size=(NUM_METRICS,))
    matrix = np.random.default_rng(1).normal(size=(512, 512)).astype(np.float32)
    times = []
    for step in range(1, num_steps + 1):
        busy_until = time.perf_counter() + step_seconds
        while time.perf_counter() < busy_until:
            matrix = np.tanh(matrix @ matrix / 512)
        metrics = {f"loss/m{index}": value + step for index, value in enumerate(values)}
        before = time.perf_counter()
        tracker.metrics(metrics, images_seen=step * 64)
        times.append(time.perf_counter() - before)
    if left := tracker.finish("FINISHED", wait_seconds=120):
        print(left)
    return times


def images(folder: Path, *, num: int) -> list[float]:
    """Return the seconds of each `image` call; encoding happens in its thread."""
    tracker = Tracker.open(folder, uri=None, experiment="benchmark", run_name=folder.name)
    pixels = np.random.default_rng(0).integers(0, 256, (GRID_PIXELS, GRID_PIXELS, 3), dtype=np.uint8)
    times = []
    for step in range(1, num + 1):
        before = time.perf_counter()
        tracker.image("samples/ema", pixels, images_seen=step)
        times.append(time.perf_counter() - before)
        tracker.flush()
    tracker.finish("FINISHED")
    return times


def scan(folder: Path) -> None:
    """Print how long it takes to open a journal again."""
    size_bytes = (folder / "journal.jsonl").stat().st_size
    before = time.perf_counter()
    tracker = Tracker.open(folder, uri=None, experiment="benchmark", run_name=folder.name)
    seconds = time.perf_counter() - before
    tracker.finish("FINISHED")
    megabytes = size_bytes / 1e6
    print(f"  opening a journal of {megabytes:.1f} MB again: {seconds:.2f} s = {megabytes / seconds:.0f} MB/s")


def report(label: str, seconds: list[float], *, step_seconds: float) -> None:
    """Print median and 99th percentile, and the median's share of a step."""
    median = statistics.median(seconds)
    high = statistics.quantiles(seconds, n=100)[98]
    print(
        f"  {label:22} median {median * 1e6:7.1f} us, p99 {high * 1e6:8.1f} us, "
        f"median / step {100 * median / step_seconds:.3f} %"
    )


if __name__ == "__main__":
    main()
