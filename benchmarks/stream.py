"""How much of the CPU the stream spends on decoding, and how soon it resumes; beside what others spend.

    python benchmarks/stream.py --json benchmarks/results/stream.json

Makes its own pictures (JPEG 256 px of about 19 kB, PNG 32 px), needs no network. All contestants read the same bytes in
alternating rounds of one run; the measure is images per CPU-second of the whole process tree, because walls of a shared
machine say little. Ratios are taken inside a round and given as median [min - max].
"""

from __future__ import annotations

import argparse
import io
import itertools
import json
import os
import platform
import resource
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import simplejpeg
import torch
import webdataset
from PIL import Image
from rich.console import Console
from rich.table import Table

from framework.data.batches import WorkerKind
from framework.data.index import index_shard, write_index
from framework.data.manifest import Manifest, ShardEntry, file_sha256, save_manifest
from framework.data.stream import open_stream

BATCH_SIZE = 64
CLASSES = 10
NUM_SHARDS = 6
NOISE = 1.1
DECODE, STOCK = "decode only, 1 thread", "webdataset + PIL"
Contestant = Callable[[], Iterator[int]]  # yields the size of each batch, without end


def textures(count: int, side: int) -> Iterator[np.ndarray]:
    """Crops (side, side, 3) of noise at several scales: about as hard to compress as photographs."""
    rng = np.random.default_rng(0)
    bases = []
    for _ in range(12):
        base = np.zeros((1024, 1024, 3), np.float32)
        for cells in (4, 16, 64, 256):
            coarse = Image.fromarray(rng.integers(0, 256, (cells, cells, 3), np.uint8))
            base += np.asarray(coarse.resize((1024, 1024), Image.Resampling.BICUBIC), np.float32) / cells**0.45
        bases.append((base - base.min()) / np.ptp(base))
    for number in range(count):
        y, x = rng.integers(0, 1024 - side, 2)
        crop = bases[number % len(bases)][y : y + side, x : x + side]
        noise = rng.normal(0, 11, (side, side, 3))
        yield np.clip(crop * 255 + noise, 0, 255).astype(np.uint8)


def encode(pixels: np.ndarray, encoding: str) -> bytes:
    """JPEG (quality 85, 4:2:0) or PNG bytes."""
    if encoding == "jpg":
        return simplejpeg.encode_jpeg(pixels, quality=85, colorsubsampling="420")
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "PNG")
    return buffer.getvalue()


def make_set(folder: Path, *, count: int, side: int, encoding: str) -> list[bytes]:
    """Shards with index and manifest; returns the encoded pictures."""
    folder.mkdir()
    files = [encode(pixels, encoding) for pixels in textures(count, side)]
    entries = []
    for shard in range(NUM_SHARDS):
        path = folder / f"train-{shard:06d}.tar"
        numbers = range(shard * count // NUM_SHARDS, (shard + 1) * count // NUM_SHARDS)
        with webdataset.TarWriter(str(path), mtime=0) as writer:
            for n in numbers:
                writer.write({"__key__": f"{n:09d}", "cls": str(n % CLASSES), encoding: files[n]})
        write_index(path.with_suffix(".idx"), index_shard(path))
        size, sha256 = path.stat().st_size, file_sha256(path)
        entries.append(ShardEntry(name=path.name, count=len(numbers), bytes=size, sha256=sha256))
    manifest = Manifest(
        name="bench",
        split="train",
        resolution=side,
        channels=3,
        classes=CLASSES,
        encoding=encoding,
        shards=tuple(entries),
    )
    save_manifest(manifest, folder)
    return files


def decode_only(files: list[bytes], encoding: str) -> Contestant:
    """The decoder alone, on bytes in memory, in the fastest way our decoder has a name for."""

    def run() -> Iterator[int]:
        for number in itertools.count():
            data = files[number % len(files)]
            if encoding == "jpg":
                simplejpeg.decode_jpeg(data, "RGB")
            else:
                np.asarray(Image.open(io.BytesIO(data)))
            if number % BATCH_SIZE == BATCH_SIZE - 1:
                yield BATCH_SIZE

    return run


def ours(
    folder: Path, side: int, kind: WorkerKind, workers: int, *, channels_last: bool, flip: bool = False
) -> Contestant:
    """The stream, with labels; (N, C, H, W) batches, contiguous or in channels_last memory format.

    Nobody else here mirrors pictures, so the rows that are compared do not either; one row shows what it costs.
    """

    def run() -> Iterator[int]:
        stream = open_stream(
            folder,
            resolution=side,
            classes=CLASSES,
            flip=flip,
            worker_kind=kind,
            workers=workers,
            channels_last=channels_last,
        )
        with stream.batches(0, batch_size=BATCH_SIZE) as batches:
            for batch in batches:
                yield len(batch.images)

    return run


def stock_webdataset(folder: Path, encoding: str, workers: int) -> Contestant:
    """WebDataset as its documentation shows it; NHWC batches."""

    def run() -> Iterator[int]:
        shards = sorted(str(path) for path in folder.glob("*.tar"))
        data = webdataset.WebDataset(shards, shardshuffle=False, resampled=True, nodesplitter=None)
        data = data.shuffle(1000).decode("rgb8").to_tuple(encoding, "cls").batched(BATCH_SIZE)
        for images, _ in webdataset.WebLoader(data, batch_size=None, num_workers=workers):
            yield len(images)

    return run


def mosaic(folder: Path, files: list[bytes], encoding: str, workers: int) -> Contestant:
    """MosaicML Streaming with the fast decoder. Raises ImportError where it is not installed."""
    from streaming import MDSWriter, StreamingDataset

    out = folder.parent / f"mds-{encoding}"
    if not out.exists():
        with MDSWriter(out=str(out), columns={"image": "bytes", "cls": "int"}) as writer:
            for n, data in enumerate(files):
                writer.write({"image": data, "cls": n % CLASSES})

    class Decoded(StreamingDataset):
        def __getitem__(self, at: Any) -> Any:
            sample = super().__getitem__(at)
            return _tensor(sample["image"], encoding), sample["cls"]

    def run() -> Iterator[int]:
        data = Decoded(local=str(out), shuffle=True, batch_size=BATCH_SIZE)
        yield from _epochs(torch.utils.data.DataLoader(data, **_loader_options(workers)))

    return run


def litdata(folder: Path, files: list[bytes], encoding: str, workers: int) -> Contestant:
    """LitData with the fast decoder. Raises ImportError where it is not installed."""
    from litdata import StreamingDataLoader, StreamingDataset
    from litdata.streaming.writer import BinaryWriter

    out = folder.parent / f"lit-{encoding}"
    if not out.exists():
        writer = BinaryWriter(str(out), chunk_bytes="16MB")
        for n, data in enumerate(files):
            writer[n] = {"image": data, "cls": n % CLASSES}
        writer.done()
        writer.merge()

    class Decoded(StreamingDataset):
        def __getitem__(self, at: Any) -> Any:
            sample = super().__getitem__(at)
            return _tensor(sample["image"], encoding), sample["cls"]

    def run() -> Iterator[int]:
        yield from _epochs(StreamingDataLoader(Decoded(str(out), shuffle=True), **_loader_options(workers)))

    return run


def _loader_options(workers: int) -> dict[str, Any]:
    return {"batch_size": BATCH_SIZE, "num_workers": workers, "persistent_workers": workers > 0}


def _tensor(data: bytes, encoding: str) -> torch.Tensor:
    pixels = simplejpeg.decode_jpeg(data) if encoding == "jpg" else np.array(Image.open(io.BytesIO(data)))
    return torch.from_numpy(pixels)


def _epochs(loader: Any) -> Iterator[int]:
    while True:
        for images, _ in loader:
            yield len(images)


def tree_cpu_seconds() -> float:
    """CPU time of this process and its descendants, those that have ended and been waited for included.

    Without the ended ones a loader that restarts its workers at the end of an epoch would look many times too fast.
    """
    children: dict[int, list[tuple[int, float]]] = {}
    ticks = os.sysconf("SC_CLK_TCK")
    for folder in Path("/proc").iterdir():
        if folder.name.isdigit():
            try:
                words = (folder / "stat").read_text().rpartition(")")[2].split()
            except (FileNotFoundError, ProcessLookupError):
                continue
            seconds = sum(int(word) for word in words[11:15]) / ticks  # utime, stime, and those of waited-for children
            children.setdefault(int(words[1]), []).append((int(folder.name), seconds))
    ended = resource.getrusage(resource.RUSAGE_CHILDREN)
    total, todo = time.process_time() + ended.ru_utime + ended.ru_stime, [os.getpid()]
    while todo:
        for child, seconds in children.get(todo.pop(), []):
            total += seconds
            todo.append(child)
    return total


def rate(contestant: Contestant, count: int) -> float:
    """Images per CPU-second after a warm-up of a few batches (start of workers, imports)."""
    batches = contestant()
    for _ in range(8):
        next(batches)
    seen, begun = 0, tree_cpu_seconds()
    while seen < count:
        seen += next(batches)
    seconds = tree_cpu_seconds() - begun
    batches.close()  # type: ignore[attr-defined]
    return seen / seconds


def contestants(folder: Path, files: list[bytes], side: int, encoding: str) -> tuple[dict[str, Contestant], list[str]]:
    """All that can run here, and the names of those that are not installed."""
    table = {DECODE: decode_only(files, encoding)}
    kinds: tuple[WorkerKind, ...] = ("thread", "process")
    for kind in kinds:
        for workers in (1, 2):
            table[f"ours, {workers} {kind}"] = ours(folder, side, kind, workers, channels_last=False)
    for kind in kinds:
        table[f"ours, 1 {kind}, channels last"] = ours(folder, side, kind, 1, channels_last=True)
    table["ours, 1 thread, channels last, flips"] = ours(folder, side, "thread", 1, channels_last=True, flip=True)
    for workers in (1, 2):
        table[f"{STOCK}, {workers} process"] = stock_webdataset(folder, encoding, workers)
    missing = []
    for name, make in (("MosaicML Streaming", mosaic), ("LitData", litdata)):
        try:
            for workers in (1, 2):
                table[f"{name}, {workers} process"] = make(folder, files, encoding, workers)
        except ImportError as error:
            missing.append(f"{name}: not installed ({error})")
    return table, missing


def compare(folder: Path, files: list[bytes], side: int, encoding: str, *, rounds: int, count: int) -> dict[str, Any]:
    """Rates and in-round ratios of every contestant."""
    table, missing = contestants(folder, files, side, encoding)
    rates: dict[str, list[float]] = {name: [] for name in table}
    for number in range(rounds):
        names = list(table)
        for name in names if number % 2 == 0 else reversed(names):
            rates[name].append(rate(table[name], count))

    def ratios(name: str, base: str) -> list[float]:
        found = sorted(a / b for a, b in zip(rates[name], rates[base], strict=True))
        return [round(value, 3) for value in (statistics.median(found), found[0], found[-1])]

    _refuse_the_impossible(rates)
    rows = {}
    for name, values in rates.items():
        workers = next((word for word in ("1", "2") if f", {word} " in name), "1")
        rows[name] = {
            "images_per_cpu_second": round(statistics.median(values)),
            "to_decode_only": ratios(name, DECODE),
            "to_stock_webdataset": ratios(name, f"{STOCK}, {workers} process"),
        }
    return {"rows": rows, "not_installed": missing, "mean_bytes": round(statistics.fmean(map(len, files)))}


def _refuse_the_impossible(rates: dict[str, list[float]]) -> None:
    """Nobody who decodes is faster than the decoder: such a rate means that the measurement is wrong."""
    alone = statistics.median(rates[DECODE])
    for name, values in rates.items():
        if statistics.median(values) > NOISE * alone:
            raise RuntimeError(
                f"{name}: {statistics.median(values):.0f} images per CPU-second, decoding alone takes {alone:.0f}: "
                "CPU time escapes the measurement, or pictures are not decoded"
            )


def first_batch(folder: Path, side: int) -> dict[str, dict[str, float]]:
    """Milliseconds from `open_stream` to the first batch at several points of epoch 3, loading in the caller."""
    result = {}
    for percent in (0, 50, 99):
        walls, cpus = [], []
        for _ in range(5):
            wall, cpu = time.monotonic(), time.process_time()
            stream = open_stream(folder, resolution=side, classes=CLASSES, workers=0)
            start = 3 * stream.count + stream.count * percent // 100
            with stream.batches(start, batch_size=BATCH_SIZE) as batches:
                next(batches)
                walls.append(1000 * (time.monotonic() - wall))
                cpus.append(1000 * (time.process_time() - cpu))
        result[f"{percent} %"] = {
            "wall_ms": round(statistics.median(walls), 1),
            "cpu_ms": round(statistics.median(cpus), 1),
        }
    return result


def show(console: Console, title: str, result: dict[str, Any]) -> None:
    """Print one comparison."""
    table = Table(title=f"{title}, mean {result['mean_bytes']:,} bytes", title_justify="left")
    for column in ("", "images / CPU-second", "to decode only", "to stock webdataset"):
        table.add_column(column, justify="left" if not column else "right")
    for name, row in result["rows"].items():
        cells = ["x{:.2f} [{:.2f} - {:.2f}]".format(*row[key]) for key in ("to_decode_only", "to_stock_webdataset")]
        table.add_row(name, f"{row['images_per_cpu_second']:,}", *cells)
    console.print(table)
    for text in result["not_installed"]:
        console.print(text)


def main() -> None:
    """Run the comparison and print it."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--json", type=Path, help="also write the results here")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument(
        "--images", type=int, default=3000, help="measured per contestant and round at 256 px; 4x at 32"
    )
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    console = Console(width=110 if not os.isatty(1) else None)
    load = os.getloadavg()[0]
    result: dict[str, Any] = {"machine": f"{os.cpu_count()} cores {platform.machine()}", "torch": torch.__version__}
    with tempfile.TemporaryDirectory() as temporary:
        for name, side, encoding, times in (("jpg256", 256, "jpg", 1), ("png32", 32, "png", 4)):
            folder = Path(temporary) / name
            files = make_set(folder, count=min(3000, arguments.images), side=side, encoding=encoding)
            count = arguments.images * times
            result[name] = compare(folder, files, side, encoding, rounds=arguments.rounds, count=count)
            show(console, f"{encoding} {side} px, batch {BATCH_SIZE}, {arguments.rounds} rounds", result[name])
            result[name]["first_batch"] = first_batch(folder, side)
            console.print(f"first batch of {BATCH_SIZE}, resuming in epoch 3: {result[name]['first_batch']}")
    result["load_average"] = [round(load, 1), round(os.getloadavg()[0], 1)]
    console.print(f"load average before and after: {result['load_average']}")
    if arguments.json:
        arguments.json.parent.mkdir(parents=True, exist_ok=True)
        arguments.json.write_text(json.dumps(result, indent=1) + "\n")


if __name__ == "__main__":
    main()
