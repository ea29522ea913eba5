"""The work of `framework doctor`, which examines this machine or the cluster it was started on."""

from __future__ import annotations

import importlib.util
import os
import time
from pathlib import Path

from framework.doctor import machine
from framework.doctor.finding import Finding, as_json, fail, show, worst
from framework.doctor.folder import run_folder
from framework.doctor.services import mlflow, rendezvous_port


def run(
    *, out: Path, data: str | None, tracking: str | None, port: int, timeout_seconds: float, json: bool, quick: bool
) -> int:
    """Examine, print the findings, and return the exit status: 1 if something will not work.

    Args:
        out: the value that `--out` will have.
        data: the value that `--data` will have.
        tracking: the value that `--tracking` will have.
        port: the port at which launchers' processes meet.
        timeout_seconds: the time to wait for other processes.
        json: print JSON instead of a table.
        quick: leave out the processes that all-reduce on this machine.
    """
    # Without the software, nothing else can be examined.
    begun = time.monotonic()
    findings = [*machine.software()]
    if importlib.util.find_spec("torch") is None or worst(findings) == "fail":
        return _report(findings, json=json, title="this machine (nothing else can be examined without the software)")

    from framework.runtime.launchers import adopt_environment, told_processes
    from framework.runtime.network import adopt_interface

    # This machine.
    adopt_environment()
    adopt_interface()
    if os.environ.get("LOCAL_RANK", "0") == "0":  # one process examines its machine
        findings += [
            machine.processors(),
            machine.memory(),
            machine.shared_memory(),
            *machine.gpus(),
            machine.backends(),
        ]
        findings += run_folder(out)
    # Alone, or as a cluster.
    if told_processes() == 1:
        findings += _alone(out=out, data=data, tracking=tracking, port=port, quick=quick)
        return _report(findings, json=json, title=f"this machine ({time.monotonic() - begun:.0f} s)")
    if os.environ["RANK"] == "0":
        findings.append(mlflow(tracking, out=out))
    return _cluster(findings, out=out, data=data, timeout_seconds=timeout_seconds, json=json, begun=begun)


def _alone(*, out: Path, data: str | None, tracking: str | None, port: int, quick: bool) -> list[Finding]:
    from framework.doctor.pair import all_reduce_here
    from framework.doctor.sameness import data_here

    findings = [rendezvous_port(port), mlflow(tracking, out=out)]
    if data is not None:
        findings.append(data_here(data))
    return findings if quick else [*findings, *all_reduce_here()]


def _cluster(
    own: list[Finding], *, out: Path, data: str | None, timeout_seconds: float, json: bool, begun: float
) -> int:
    from framework.doctor.cluster import examine
    from framework.doctor.exchange import join_exchange

    try:
        exchange = join_exchange(timeout_seconds=timeout_seconds)
    except RuntimeError as error:
        where = f"{os.environ.get('MASTER_ADDR')}:{os.environ.get('MASTER_PORT')}"
        reason = (str(error).splitlines() or [""])[0][:200]
        advice = "is the first process there, and is that its machine's address? A firewall may close the port"
        lost = fail("processes", f"rank {os.environ['RANK']} found nobody at {where}: {reason}", advice)
        return _report([lost], json=json, title="this cluster")
    findings, verdict = examine(exchange, own, out=out, data=data)
    if exchange.rank == 0:
        _report(findings, json=json, title=f"this cluster, seen by rank 0 ({time.monotonic() - begun:.0f} s)")
    exchange.leave()
    return 1 if verdict == "fail" else 0


def _report(findings: list[Finding], *, json: bool, title: str) -> int:
    if json:
        print(as_json(findings))
    else:
        show(findings, title=title)
    return 1 if worst(findings) == "fail" else 0
