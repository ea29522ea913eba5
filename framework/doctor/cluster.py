"""A cluster before the job: started as the job will be, every process takes part and the first one reports.

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

from framework.doctor.all_reduce import judged, measure
from framework.doctor.finding import Finding, Level, fail, ok, warn, worst
from framework.doctor.meeting import Card, Meeting, introduce, leaders, unreachable
from framework.doctor.sameness import compare, judge_folder, shared_folder, traits

CLOCK_ROUNDS = 20
MOST_SKEW_SECONDS = 1.0


def examine(
    meeting: Meeting, own: list[Finding], *, out: Path, data: str | None, clock: Callable[[], float] = time.time
) -> tuple[list[Finding], Level]:
    """Examine the cluster; every process must call it.

    Args:
        own: what this process's machine was found to be; those of other machines are reported if they are not ok.
        out: what `--out` will be.
        data: what `--data` will be.
        clock: seconds since 1970.

    Returns:
        The whole report on rank 0, and the same verdict everywhere.
    """
    cards = introduce(meeting)
    findings = [ranks_met(cards, world=meeting.world)]
    if len(cards) == meeting.world:
        findings += _together(meeting, cards, own, out=out, data=data, clock=clock)
    if meeting.rank == 0:
        findings = own + findings
        meeting.say("verdict", worst(findings))
    # The first process hears the others out, which takes longer than any of them.
    told = meeting.hear("verdict", ranks=[0], patience=4.0)
    return findings, told.get(0, "fail")


def ranks_met(cards: Mapping[int, Card], *, world: int) -> Finding:
    """Who came."""
    machines = Counter(card.machine for card in cards.values())
    listed = ", ".join(f"{machine}: {count}" for machine, count in machines.items())
    missing = [rank for rank in range(world) if rank not in cards]
    if missing:
        named = ", ".join(map(str, missing[:8])) + (", ..." if len(missing) > 8 else "")
        value = f"rank {named} ({len(missing)} of {world}) did not come; there are {listed}"
        advice = "was the launcher started on every machine, with the same number of machines and processes?"
        return fail("processes", value, advice)
    return ok("processes", f"{world} on {len(leaders(cards))} launcher(s), {listed}")


def _together(
    meeting: Meeting,
    cards: Mapping[int, Card],
    own: list[Finding],
    *,
    out: Path,
    data: str | None,
    clock: Callable[[], float],
) -> list[Finding]:
    """Everything that takes all processes."""
    chosen, findings = leaders(cards), []
    if meeting.rank == chosen[0]:
        meeting.say("token", uuid.uuid4().hex[:12])
    if meeting.rank in chosen:
        findings.append(connections(unreachable(meeting, cards), cards))
        meeting.say("machine", [asdict(finding) for finding in own if finding.level != "ok"])
        meeting.say("traits", traits(data=data))
        meeting.say("folder", shared_folder(meeting, out, ranks=chosen))
        meeting.say("sound", worst(findings))
    if meeting.rank == 0:
        findings += _from_leaders(meeting, cards, out)
    sound = meeting.hear("sound", ranks=chosen, patience=2.0)
    if any(level == "fail" for level in sound.values()) or len(sound) < len(chosen):
        return findings  # a process group would wait for its time-out and say less
    return findings + _as_group(meeting, cards, clock)


def _from_leaders(meeting: Meeting, cards: Mapping[int, Card], out: Path) -> list[Finding]:
    """Rank 0: what the machines say of themselves and of each other."""
    chosen = leaders(cards)
    findings = []
    for rank, told in meeting.hear("machine", ranks=chosen[1:]).items():
        findings += [replace(Finding(**one), area=f"{one['area']}, {cards[rank].machine}") for one in told]
    findings += compare(meeting.hear("traits", ranks=chosen), cards)
    if len(chosen) > 1:
        findings.append(judge_folder(meeting.hear("folder", ranks=chosen, patience=2.0), cards, out))
    return findings


def connections(failed: Mapping[int, list[int]], cards: Mapping[int, Card]) -> Finding:
    """Who reaches whom over ports that the system chose, as gloo's and NCCL's are."""
    broken = [f"{cards[a].machine} does not reach {cards[b].machine}" for a, others in failed.items() for b in others]
    if broken:
        listed = "\n".join(broken[:8]) + ("\n..." if len(broken) > 8 else "")
        advice = (
            "open all TCP ports between the machines of a job (a firewall?), or choose another network with "
            "GLOO_SOCKET_IFNAME and NCCL_SOCKET_IFNAME"
        )
        return fail("connections", listed, advice)
    through = ", ".join(sorted({cards[rank].interface for rank in failed}))
    return ok("connections", f"every machine reaches every machine, through {through}")


def _as_group(meeting: Meeting, cards: Mapping[int, Card], clock: Callable[[], float]) -> list[Finding]:
    on_gpu = torch.cuda.is_available()
    device = torch.device("cuda", meeting.local_rank) if on_gpu else torch.device("cpu")
    if on_gpu:
        torch.cuda.set_device(device)
    try:
        dist.init_process_group(
            "nccl" if on_gpu else "gloo",
            store=dist.PrefixStore("doctor-group", meeting.store),
            rank=meeting.rank,
            world_size=meeting.world,
            timeout=timedelta(seconds=meeting.timeout_seconds),
            device_id=device if on_gpu else None,
        )
        findings = [judged(measure(device))]
        votes = dist.new_group(backend="gloo") if on_gpu else dist.group.WORLD
        findings.append(clocks(clock_offsets(leaders(cards), group=votes, clock=clock), cards))
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
    """Rank 0: by how many seconds each rank's clock is ahead of its own, and how uncertain that is.

    One rank after the other sends its time back; the answer of the shortest round trip counts (as NTP does).
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


def clocks(offsets: Mapping[int, tuple[float, float]], cards: Mapping[int, Card]) -> Finding:
    """What the differences mean."""
    if not offsets:
        return ok("clocks", "one machine")
    rank = max(offsets, key=lambda other: abs(offsets[other][0]))
    offset, uncertain = offsets[rank]
    if abs(offset) - uncertain > MOST_SKEW_SECONDS:
        direction = "ahead of" if offset > 0 else "behind"
        value = f"{cards[rank].machine} is {abs(offset):.1f} s {direction} {cards[0].machine}"
        return warn("clocks", value, "logs, charts and file ages will disagree: run chrony or ntpd on every machine")
    return ok("clocks", f"at most {1e3 * abs(offset):.1f} ms apart (± {1e3 * uncertain:.1f} ms)")
