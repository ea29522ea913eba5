"""The examination of a cluster before a job, started as the job will be; the first process reports.

torchrun --nnodes 4 --nproc_per_node 8 ... -m framework.doctor --out /shared/runs/a --data /data/x
"""

from __future__ import annotations

import time
import uuid
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import asdict, replace
from datetime import timedelta
from pathlib import Path

import torch
import torch.distributed as dist

from framework.doctor.all_reduce import judge_all_reduce, measure
from framework.doctor.exchange import Exchange, ProcessInfo, collect_processes, leaders, unreachable
from framework.doctor.finding import Finding, Level, fail, ok, warn, worst
from framework.doctor.sameness import compare, judge_folder, shared_folder, traits

CLOCK_ROUNDS = 20
MOST_SKEW_SECONDS = 1.0


def examine(
    exchange: Exchange, own: list[Finding], *, out: Path, data: str | None, clock: Callable[[], float] = time.time
) -> tuple[list[Finding], Level]:
    """Examine the cluster; every process must call it.

    Args:
        exchange: the messages between the processes.
        own: the findings about this process's machine; those about other machines are reported if they are not ok.
        out: the value that `--out` will have.
        data: the value that `--data` will have.
        clock: returns seconds since 1970.

    Returns:
        The findings, which are complete on rank 0 only, and the most serious level, the same on all processes.
    """
    processes = collect_processes(exchange)
    findings = [all_present(processes, world=exchange.world)]
    if len(processes) == exchange.world:
        findings += _examine_together(exchange, processes, own, out=out, data=data, clock=clock)
    if exchange.rank == 0:
        findings = own + findings
        exchange.publish("verdict", worst(findings))
    # The first process waits for all others, which takes longer than any of them.
    verdicts = exchange.collect("verdict", ranks=[0], timeout_factor=4.0)
    return findings, verdicts.get(0, "fail")


def all_present(processes: Mapping[int, ProcessInfo], *, world: int) -> Finding:
    """Return the finding on whether all processes of the launch are there."""
    machines = Counter(process.machine for process in processes.values())
    listed = ", ".join(f"{machine}: {count}" for machine, count in machines.items())
    missing = [rank for rank in range(world) if rank not in processes]
    if missing:
        named = ", ".join(map(str, missing[:8])) + (", ..." if len(missing) > 8 else "")
        value = f"rank {named} ({len(missing)} of {world}) did not come; there are {listed}"
        advice = "was the launcher started on every machine, with the same number of machines and processes?"
        return fail("processes", value, advice)
    return ok("processes", f"{world} on {len(leaders(processes))} launcher(s), {listed}")


def _examine_together(
    exchange: Exchange,
    processes: Mapping[int, ProcessInfo],
    own: list[Finding],
    *,
    out: Path,
    data: str | None,
    clock: Callable[[], float],
) -> list[Finding]:
    """Return the findings that need all processes."""
    # What each machine does and says, by its leader.
    chosen, findings = leaders(processes), []
    if exchange.rank == chosen[0]:
        exchange.publish("token", uuid.uuid4().hex[:12])
    if exchange.rank in chosen:
        findings.append(connections(unreachable(exchange, processes), processes))
        exchange.publish("machine", [asdict(finding) for finding in own if finding.level != "ok"])
        exchange.publish("traits", traits(data=data))
        exchange.publish("folder", shared_folder(exchange, out, ranks=chosen))
        exchange.publish("sound", worst(findings))
    if exchange.rank == 0:
        findings += _from_leaders(exchange, processes, out)
    # A group, if nothing is in its way.
    sound = exchange.collect("sound", ranks=chosen, timeout_factor=2.0)
    if any(level == "fail" for level in sound.values()) or len(sound) < len(chosen):
        return findings  # a process group would wait for its time-out and report less
    return findings + _as_group(exchange, processes, clock)


def _from_leaders(exchange: Exchange, processes: Mapping[int, ProcessInfo], out: Path) -> list[Finding]:
    """Return, on rank 0, the findings of the machines' leaders about themselves and each other."""
    chosen = leaders(processes)
    findings = []
    for rank, others in exchange.collect("machine", ranks=chosen[1:]).items():
        findings += [replace(Finding(**one), area=f"{one['area']}, {processes[rank].machine}") for one in others]
    findings += compare(exchange.collect("traits", ranks=chosen), processes)
    if len(chosen) > 1:
        findings.append(judge_folder(exchange.collect("folder", ranks=chosen, timeout_factor=2.0), processes, out))
    return findings


def connections(failed: Mapping[int, list[int]], processes: Mapping[int, ProcessInfo]) -> Finding:
    """Return the finding on connections between machines over ports that the system chose, as gloo's and NCCL's are.

    Args:
        failed: rank of a leader -> ranks of the leaders that it cannot reach.
        processes: the processes by rank.
    """
    names = {rank: process.machine for rank, process in processes.items()}
    broken = [f"{names[a]} does not reach {names[b]}" for a, others in failed.items() for b in others]
    if broken:
        listed = "\n".join(broken[:8]) + ("\n..." if len(broken) > 8 else "")
        advice = (
            "open all TCP ports between the machines of a job (a firewall?), or choose another network with "
            "GLOO_SOCKET_IFNAME and NCCL_SOCKET_IFNAME"
        )
        return fail("connections", listed, advice)
    through = ", ".join(sorted({processes[rank].interface for rank in failed}))
    return ok("connections", f"every machine reaches every machine, through {through}")


def _as_group(exchange: Exchange, processes: Mapping[int, ProcessInfo], clock: Callable[[], float]) -> list[Finding]:
    on_gpu = torch.cuda.is_available()
    device = torch.device("cuda", exchange.local_rank) if on_gpu else torch.device("cpu")
    if on_gpu:
        torch.cuda.set_device(device)
    try:
        dist.init_process_group(
            "nccl" if on_gpu else "gloo",
            store=dist.PrefixStore("doctor-group", exchange.store),
            rank=exchange.rank,
            world_size=exchange.world,
            timeout=timedelta(seconds=exchange.timeout_seconds),
            device_id=device if on_gpu else None,
        )
        findings = [judge_all_reduce(measure(device))]
        votes = dist.new_group(backend="gloo") if on_gpu else dist.group.WORLD
        findings.append(clocks(clock_offsets(leaders(processes), group=votes, clock=clock), processes))
    except RuntimeError as error:
        first_line = (str(error).splitlines() or ["no reason given"])[0][:300]
        return [fail("process group", first_line, "NCCL_DEBUG=INFO (GPUs) or GLOO_SOCKET_IFNAME (CPUs) may help")]
    finally:
        if dist.is_initialized():
            dist.destroy_process_group()
    return findings


def clock_offsets(
    ranks: list[int], *, group: dist.ProcessGroup | None, clock: Callable[[], float]
) -> dict[int, tuple[float, float]]:
    """Return, on rank 0, by how many seconds each rank's clock is ahead of its own, and how uncertain that is.

    One rank after the other sends its time back; the answer with the shortest round trip counts (as in NTP).
    """
    rank, offsets = dist.get_rank(), {}
    message = torch.zeros(1, dtype=torch.float64)
    for other in ranks[1:]:
        if rank not in (0, other):
            continue
        rounds = []
        for _ in range(CLOCK_ROUNDS):
            if rank == 0:
                sent = clock()
                dist.send(message, other, group=group)
                dist.recv(message, other, group=group)
                back = clock()
                rounds.append(((back - sent) / 2, float(message) - (sent + back) / 2))
            else:
                dist.recv(message, 0, group=group)
                message.fill_(clock())
                dist.send(message, 0, group=group)
        if rank == 0:
            uncertain, offset = min(rounds)
            offsets[other] = (offset, uncertain)
    return offsets


def clocks(offsets: Mapping[int, tuple[float, float]], processes: Mapping[int, ProcessInfo]) -> Finding:
    """Return the finding on the differences between clocks: rank -> (seconds ahead of rank 0, uncertainty)."""
    if not offsets:
        return ok("clocks", "one machine")
    rank = max(offsets, key=lambda other: abs(offsets[other][0]))
    offset, uncertain = offsets[rank]
    if abs(offset) - uncertain > MOST_SKEW_SECONDS:
        direction = "ahead of" if offset > 0 else "behind"
        value = f"{processes[rank].machine} is {abs(offset):.1f} s {direction} {processes[0].machine}"
        return warn("clocks", value, "logs, charts and file ages will disagree: run chrony or ntpd on every machine")
    return ok("clocks", f"at most {1e3 * abs(offset):.1f} ms apart (± {1e3 * uncertain:.1f} ms)")
