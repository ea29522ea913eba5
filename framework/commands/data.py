"""`framework data verify|index|inspect`: look after packed data sets and shards made by others."""

from __future__ import annotations

from dataclasses import asdict
from json import dumps
from typing import Annotated, Any

import tyro
from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table

from framework.data.inspection import find_faults, index_foreign, report_on
from framework.data.manifest import FieldEntry
from framework.utils.flags import OptionalLocalPath
from framework.utils.ranges import Range

_MAX_FAULTS_SHOWN = 100
_MAX_CLASSES_SHOWN = 40
_BAR_WIDTH = 30


def verify(
    location: tyro.conf.Positional[str],
    *,
    sample: Annotated[int | None, Range(least=0)] = None,
    cache_folder: OptionalLocalPath = None,
    json: bool = False,
) -> int:
    """Check a data set: sizes, SHA-256, header chains, indexes, labels, pictures. Exit status 1 if anything is wrong.

    Args:
        location: Folder, glob or brace list of shards, http(s):// or pipe:.
        sample: Decode only this many pictures, spread evenly. Everything else is checked in full.
        cache_folder: Where remote shards are kept.
        json: Print the result as JSON.
    """
    columns = (TextColumn("pictures"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task("", total=None)
        result = find_faults(
            location,
            sample=sample,
            cache_folder=cache_folder,
            progress=lambda done, total: bar.update(task, completed=done, total=total),
        )
    status = 1 if result.faults else 0
    if json:
        print(dumps(asdict(result), indent=1))
        return status
    out = Console(highlight=False, soft_wrap=True)
    for fault in result.faults[:_MAX_FAULTS_SHOWN]:
        out.print(f"[red]fault[/red]  {escape(fault)}")
    if len(result.faults) > _MAX_FAULTS_SHOWN:
        out.print(f"... and {len(result.faults) - _MAX_FAULTS_SHOWN:,} more; --json lists all")
    verdict = f"[red]{len(result.faults):,} fault(s)[/red]" if result.faults else "[green]no fault[/green]"
    looked = f"{result.num_shards:,} shards, {result.num_samples:,} samples, {result.num_decoded:,} pictures decoded"
    out.print(f"{looked}: {verdict}")
    return status


def index(
    location: tyro.conf.Positional[str],
    *,
    name: str = "",
    split: str = "",
    force: bool = False,
    json: bool = False,
) -> int:
    """Index shards made by others: write a .idx beside each and a manifest.json. The shards are not changed.

    Args:
        location: Folder, glob or brace list of local shards, all in one folder.
        name: Name of the data set; default the folder's.
        split: Which part of the data set it is, such as "train".
        force: Replace an existing manifest.
        json: Print the manifest as JSON.
    """
    folder, manifest = index_foreign(location, name=name, split=split, force=force)
    if json:
        print(dumps(manifest.to_json(), indent=1))
        return 0
    side = manifest.resolution
    Console(highlight=False, soft_wrap=True).print(
        f"{escape(str(folder))}: {len(manifest.shards):,} shards, {manifest.count:,} samples, "
        f"{manifest.classes} classes, {side}x{side} {manifest.encoding}; wrote .idx files and manifest.json"
    )
    return 0


def inspect(
    location: tyro.conf.Positional[str],
    *,
    keys: Annotated[int, Range(least=0)] = 5,
    cache_folder: OptionalLocalPath = None,
    json: bool = False,
) -> int:
    """Show what a data set holds: counts, classes, sizes, a few keys.

    Args:
        location: Folder, glob or brace list of shards, http(s):// or pipe:.
        keys: How many keys to show.
        cache_folder: Where remote shards are kept.
        json: Print as JSON: a list with one entry per resolution.
    """
    reports = report_on(location, cache_folder=cache_folder, num_keys=keys)
    if json:
        print(dumps(reports, indent=1))
        return 0
    out = Console(highlight=False, soft_wrap=True)
    for report in reports:
        _show(out, report)
    return 0


def _show(out: Console, report: dict[str, Any]) -> None:
    table = Table(show_header=False, box=None, padding=(0, 2, 0, 0))
    side, per_shard = report["resolution"], report["samples_per_shard"]
    colours = "grey" if report["channels"] == 1 else "RGB"
    pictures = f"{side}x{side} {colours}, {report['encoding']}"
    if report["fields"]:
        pictures = f"{', '.join(FieldEntry(**one).form for one in report['fields'])}, {report['encoding']}"
    rows = {
        "data set": " ".join(filter(None, [report["name"], report["split"]])),
        "samples": f"{report['count']:,} in {report['num_shards']:,} shards "
        f"of {per_shard['min']:,} to {per_shard['max']:,}",
        "pictures" if side else "fields": pictures,
        "size": f"{report['bytes'] / 1e6:,.1f} MB, {report['bytes_per_sample']:,} bytes a sample; "
        f"{report['decoded_bytes'] / 1e6:,.1f} MB decoded",
        "classes": f"{report['classes']:,}",
        "keys": ", ".join(report["keys"]) or "-",
        "source": ", ".join(f"{name}: {value}" for name, value in report["source"].items()) or "-",
        "fingerprint": report["fingerprint"],
    }
    for name, value in rows.items():
        table.add_row(name, escape(value))
    out.print(table)
    counts = report["label_counts"]
    for label, count in enumerate(counts[:_MAX_CLASSES_SHOWN]):
        name = report["class_names"][label] if report["class_names"] else ""
        bar = "█" * round(_BAR_WIDTH * count / max(counts))
        out.print(f"  {label:>4}  {count:>9,}  {bar:<{_BAR_WIDTH}}  {escape(name)}".rstrip())
    if len(counts) > _MAX_CLASSES_SHOWN:
        out.print(f"  ... and {len(counts) - _MAX_CLASSES_SHOWN:,} more classes; --json lists all")
