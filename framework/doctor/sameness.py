"""The comparison of a cluster's machines: their code, software and data, and whether they share the run folder."""

from __future__ import annotations

import contextlib
import hashlib
import importlib.metadata
import os
import platform
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from framework.data.errors import DataError
from framework.data.inspection import open_any, parts_of
from framework.doctor.exchange import Exchange, ProcessInfo
from framework.doctor.finding import Finding, fail, ok, warn
from framework.doctor.folder import existing
from framework.doctor.machine import SHOWN, nccl_version
from framework.tracking.lock import WriterLock, writer_is_alive
from framework.tracking.system import git_revision

PACKAGE = Path(__file__).parents[1]
_UNUSABLE = "cannot be used"


def traits(*, data: str | None) -> dict[str, str]:
    """Return this machine's traits that must be the same on all machines.

    Args:
        data: the value that `--data` will have.
    """
    found = {
        "software": f"Python {platform.python_version()}, " + ", ".join(_versions()),
        "code": f"{code_hash()[:12]}{_revision()}",
    }
    if data is not None:
        found["data"] = fingerprint(data)
    return found


def _versions() -> Iterator[str]:
    for name in SHOWN:
        with contextlib.suppress(importlib.metadata.PackageNotFoundError):
            yield f"{name} {importlib.metadata.version(name)}"
    if nccl := nccl_version():
        yield f"NCCL {nccl}"


def code_hash() -> str:
    """Return a SHA-256 over this package's sources, because containers have no git."""
    digest = hashlib.sha256()
    for path in sorted(PACKAGE.rglob("*.py")):
        digest.update(f"{path.relative_to(PACKAGE)}\0".encode() + path.read_bytes())
    return digest.hexdigest()


def _revision() -> str:
    revision = git_revision(PACKAGE)
    return "" if revision is None else f" (git {revision['commit'][:10]}{', changed' if revision['dirty'] else ''})"


def fingerprint(location: str) -> str:
    """Return the identity of a data set by its manifest, or why it cannot be opened here."""
    try:
        sources = [open_any(part)[0] for part in parts_of(location)]
    except (DataError, OSError) as error:
        return f"{_UNUSABLE}: {error}"
    missing = [a for s in sources for a in s.addresses if not s.remote and not Path(a).exists()]
    if missing:
        return f"{_UNUSABLE}: {len(missing)} shards are missing, such as {missing[0]}"
    count = sum(source.manifest.count for source in sources)
    digest = hashlib.sha256("".join(source.manifest.fingerprint for source in sources).encode()).hexdigest()
    return f"{digest[:12]}, {count:,} samples"


ADVICE = {
    "software": "install the same constraints.txt everywhere, or use one container image",
    "code": "check out the same revision everywhere, or use one container image",
    "data": "copy the data set again, or give one location that all machines see",
}


def compare(reports: Mapping[int, Mapping[str, str]], processes: Mapping[int, ProcessInfo]) -> Iterator[Finding]:
    """Yield one finding for each trait.

    Args:
        reports: leader -> what its `traits` returned.
        processes: the processes by rank.
    """
    for name in next(iter(reports.values())):
        groups: dict[str, list[str]] = {}
        for rank, found in reports.items():
            groups.setdefault(found[name], []).append(processes[rank].machine)
        if len(groups) > 1:
            listed = "\n".join(f"{value} on {_some(machines)}" for value, machines in groups.items())
            yield fail(f"same {name}", listed, ADVICE[name])
        elif name == "data":
            yield _judge_data("same data", next(iter(groups)))
        else:
            yield ok(f"same {name}", next(iter(groups)))


def data_here(location: str) -> Finding:
    """Return the finding on whether a data set can be opened on this machine."""
    return _judge_data("data", fingerprint(location))


def _judge_data(area: str, found: str) -> Finding:
    if found.startswith(_UNUSABLE):
        return fail(area, found, "check --data; `framework data verify` looks at every shard")
    return ok(area, found)


def _some(machines: list[str]) -> str:
    return ", ".join(machines[:4]) + (f" and {len(machines) - 4} more" if len(machines) > 4 else "")


def shared_folder(exchange: Exchange, out: Path, *, ranks: list[int]) -> dict[str, Any]:
    """Write in the run folder from every machine and look for the others' files there; called by leaders only.

    Args:
        exchange: the messages between the processes.
        out: the value that `--out` will have.
        ranks: the leaders.

    Returns:
        `error`: why nothing can be written here, or empty; `unseen`: the ranks whose file did not appear; `seconds`
        until all the others had; and `locked`: True if the lock of the first rank is seen here.
    """
    # Everybody writes a file, the first one a lock, too.
    first = ranks[0]
    folder = existing(out) / f".doctor-{exchange.collect('token', ranks=[first])[first]}"
    lock = None
    try:
        folder.mkdir(exist_ok=True)
        (folder / str(exchange.rank)).touch()
        if exchange.rank == first:
            lock = WriterLock(folder / "lock", run_folder=folder)
        error = ""
    except OSError as problem:
        error = problem.strerror or str(problem)
    exchange.publish("written", error)
    # Everybody looks for the files of those that could write.
    writers = [rank for rank, text in exchange.collect("written", ranks=ranks).items() if not text]
    seconds, unseen = _wait_for([folder / str(rank) for rank in writers], timeout_seconds=exchange.timeout_seconds / 2)
    locked = (folder / "lock").exists() and (exchange.rank == first or writer_is_alive(folder / "lock"))
    exchange.publish("looked", True)
    exchange.collect("looked", ranks=ranks)
    # Nobody looks any more: clean up.
    if lock is not None:
        lock.release()
    with contextlib.suppress(OSError):
        for path in folder.iterdir():
            path.unlink(missing_ok=True)
        folder.rmdir()
    return {"error": error, "unseen": [int(name) for name in unseen], "seconds": seconds, "locked": locked}


def _wait_for(paths: list[Path], *, timeout_seconds: float) -> tuple[float, list[str]]:
    begun = time.monotonic()
    while unseen := [path.name for path in paths if not path.exists()]:
        if time.monotonic() - begun > timeout_seconds:
            break
        with contextlib.suppress(OSError):
            os.listdir(paths[0].parent)  # makes NFS look again
        time.sleep(0.05)
    return time.monotonic() - begun, unseen


def judge_folder(reports: Mapping[int, Mapping[str, Any]], processes: Mapping[int, ProcessInfo], out: Path) -> Finding:
    """Return the finding on the run folder from the reports of all leaders, each as `shared_folder` returned it."""
    name = {rank: processes[rank].machine for rank in reports}
    refused = [f"{name[rank]}: {found['error']}" for rank, found in reports.items() if found["error"]]
    if refused:
        return fail("shared run folder", f"{out}: {_some(refused)}", "give write access there, or choose another --out")
    for rank, found in reports.items():
        if found["unseen"]:
            hidden = _some([name[other] for other in found["unseen"]])
            advice = "put --out on a file system that all machines mount; checkpoints are written by all of them"
            return fail("shared run folder", f"{name[rank]} does not see in {out} what {hidden} wrote", advice)
    slowest = max(found["seconds"] for found in reports.values())
    value = f"{out}: all machines write, and see the others' files after at most {slowest:.1f} s"
    if not all(found["locked"] for found in reports.values()):
        advice = "locks do not travel: never start two launches with the same --out, nothing would stop the second one"
        return warn("shared run folder", value, advice)
    return ok("shared run folder", value)
