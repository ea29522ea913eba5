"""Two processes that all-reduce, and what leaders of machines conclude from each other's messages."""

from __future__ import annotations

import os
import time
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import Tensor
from torch.distributed import HashStore

from framework.doctor import cluster, sameness
from framework.doctor.all_reduce import AllReduce, judge_all_reduce
from framework.doctor.exchange import Exchange, ProcessInfo, collect_processes, leaders
from framework.doctor.pair import over_gloo
from tests.helpers.launch import ROOT, environment
from tests.helpers.spawn import run_ranks

FASHION = ROOT / "recipes/data/fashion_mnist"
PROCESSES = {
    rank: ProcessInfo(
        rank=rank, local_rank=rank % 2, host=f"node{rank // 2}", address=f"10.0.0.{rank // 2}", interface="eth0"
    )
    for rank in range(4)
}
MEASURED = AllReduce(backend="gloo", world=2, wrong=0, latency_seconds=1e-4, bytes_per_second=1e9)


@pytest.mark.distributed
def test_two_processes_all_reduce_here() -> None:
    found = over_gloo(environment=environment())
    assert found.area == "all-reduce, gloo"
    assert found.value.startswith("2 processes: ")
    assert found.level != "fail"


@pytest.mark.distributed
def test_a_wrong_interface_is_told_from_a_broken_machine() -> None:
    found = over_gloo(environment=environment() | {"GLOO_SOCKET_IFNAME": "nosuch0"})
    assert found.level == "warn"
    assert "nosuch0" in found.value
    assert "GLOO_SOCKET_IFNAME=lo" in found.advice


def test_what_the_numbers_mean() -> None:
    assert judge_all_reduce(MEASURED).level == "ok"
    assert judge_all_reduce(replace(MEASURED, latency_seconds=0.1)).level == "warn"
    assert judge_all_reduce(replace(MEASURED, bytes_per_second=1e6)).level == "warn"
    assert "3 elements" in judge_all_reduce(replace(MEASURED, wrong=3)).value


def skewed_clock(skew_seconds: float) -> dict[str, Tensor]:
    rank = torch.distributed.get_rank()
    offsets = cluster.clock_offsets([0, 1], group=None, clock=lambda: time.time() + rank * skew_seconds)
    assert sorted(offsets) == ([1] if rank == 0 else [])
    return {"offset": torch.tensor(offsets.get(1, (0.0, 0.0)), dtype=torch.float64)}


@pytest.mark.distributed
def test_a_clock_that_is_ahead_is_measured() -> None:
    offset, uncertain = run_ranks(skewed_clock, 2, 5.0)[0]["offset"].tolist()
    print(f"a clock 5 s ahead: measured {offset:.4f} s (± {uncertain:.4f} s)")
    assert abs(offset - 5.0) <= uncertain + 1e-3
    found = cluster.clocks({2: (offset, uncertain)}, PROCESSES)
    assert found.level == "warn"
    assert "node1 (10.0.0.1) is 5.0 s ahead of node0 (10.0.0.0)" in found.value
    assert cluster.clocks({2: (-0.2, 0.01)}, PROCESSES).level == "ok"
    assert cluster.clocks({}, PROCESSES).value == "one machine"


def test_processes_that_do_not_come_are_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LOCAL_RANK", "0")
    exchange = Exchange(HashStore(), rank=0, world=3, timeout_seconds=0.2)
    processes = collect_processes(exchange)
    found = cluster.all_present(processes, world=3)
    assert found.level == "fail"
    assert "rank 1, 2 (2 of 3) did not come" in found.value
    report, verdict = cluster.examine(exchange, [], out=Path(), data=None)
    assert verdict == "fail"
    assert report == [found]


def test_one_process_speaks_for_each_machine() -> None:
    assert leaders(PROCESSES) == [0, 2]
    assert "node0 (10.0.0.0): 2, node1 (10.0.0.1): 2" in cluster.all_present(PROCESSES, world=4).value


def test_connections_that_a_firewall_breaks() -> None:
    assert cluster.connections({0: [], 2: []}, PROCESSES).level == "ok"
    found = cluster.connections({0: [2], 2: []}, PROCESSES)
    assert found.level == "fail"
    assert "node0 (10.0.0.0) does not reach node1 (10.0.0.1)" in found.value
    assert "firewall" in found.advice


def test_machines_that_differ_are_named_with_what_they_have() -> None:
    same = {"software": "torch 2", "code": "abc", "data": "def, 10 samples"}
    assert {finding.level for finding in sameness.compare({0: same, 2: same}, PROCESSES)} == {"ok"}
    code, data = list(sameness.compare({0: same, 2: same | {"code": "xyz", "data": "ghi"}}, PROCESSES))[1:]
    assert code.value == "abc on node0 (10.0.0.0)\nxyz on node1 (10.0.0.1)"
    assert code.level == data.level == "fail"
    missing = same | {"data": "cannot be used: no such folder"}
    assert list(sameness.compare({0: missing, 2: missing}, PROCESSES))[2].level == "fail"


def test_data_is_known_by_its_manifest(tmp_path: Path) -> None:
    assert sameness.data_here(str(FASHION)).level == "ok"
    assert sameness.data_here(str(tmp_path / "none")).level == "fail"
    for path in FASHION.glob("*.json"):
        (tmp_path / path.name).write_bytes(path.read_bytes())
    assert "shards are missing" in sameness.data_here(str(tmp_path)).value


def test_a_run_folder_that_is_not_shared() -> None:
    seen = {"error": "", "unseen": [], "seconds": 0.3, "locked": True}
    out = Path("/runs/a")
    assert "after at most 0.3 s" in sameness.judge_folder({0: seen, 2: seen}, PROCESSES, out).value
    alone = sameness.judge_folder({0: seen | {"unseen": [2]}, 2: seen}, PROCESSES, out)
    assert alone.value == "node0 (10.0.0.0) does not see in /runs/a what node1 (10.0.0.1) wrote"
    assert (
        sameness.judge_folder({0: seen, 2: seen | {"error": "Read-only file system"}}, PROCESSES, out).level == "fail"
    )
    assert sameness.judge_folder({0: seen, 2: seen | {"locked": False}}, PROCESSES, out).level == "warn"


def test_the_code_is_known_without_git() -> None:
    assert len(sameness.code_hash()) == 64
    assert "code" in sameness.traits(data=None)
    assert os.environ.get("RANK") is None, "a test left the launcher's variables behind"
