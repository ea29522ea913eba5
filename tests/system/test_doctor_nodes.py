"""`framework doctor` on three nodes: a sound cluster, and one in which each node has another fault."""

from __future__ import annotations

import json
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest

from tests.helpers.cluster import ClusterLaunch, torchrun
from tests.helpers.launch import ROOT
from tests.helpers.nodes import Nodes, missing, nodes

pytestmark = [
    pytest.mark.faults,
    pytest.mark.distributed,
    pytest.mark.slow,
    pytest.mark.skipif(bool(missing()), reason=missing() or "-"),
]
DATA = ROOT / "recipes/data/fashion_mnist"


def examine(made: Nodes, out: Path, folder: Path, data: Path = DATA, **broken: Any) -> tuple[dict[str, Any], list[int]]:
    """The report of rank 0 by area, and the exit status of every launcher."""
    program = ["-m", "framework.doctor", "--json", "--out", str(out), "--data", str(data), "--timeout-seconds", "20"]
    with ClusterLaunch(made, torchrun, [*program, "--tracking", "none"], folder=folder, **broken) as launch:
        status = launch.wait(timeout_seconds=150)
        text = launch.text()
    report = json.JSONDecoder().raw_decode(text[text.index("{\n") :])[0]
    return {finding["area"]: finding for finding in report["findings"]}, status


def test_a_sound_cluster(tmp_path: Path) -> None:
    with nodes(3) as three:
        found, status = examine(three, tmp_path / "runs/a", tmp_path / "logs")
    for area in ("processes", "connections", "same software", "same code", "same data", "shared run folder", "clocks"):
        print(f"{area}: {found[area]['value']}")
        assert found[area]["level"] == "ok", found[area]
    assert found["connections"]["value"].endswith("through eth0")
    assert found["all-reduce, gloo"]["value"].startswith("3 processes")
    assert status == [0, 0, 0]
    assert list((tmp_path).glob("runs/*")) == []


def test_every_fault_is_named_with_its_machine(tmp_path: Path) -> None:
    shared, other = tmp_path / "shared", tmp_path / "other"
    shutil.copytree(DATA, shared / "data")
    (shared / "runs").mkdir()
    shutil.copytree(ROOT / "framework", other / "framework", ignore=shutil.ignore_patterns("__pycache__"))
    with (other / "framework/utils/errors.py").open("a") as file:
        file.write("# another revision\n")
    # Node 2 has mounted something else where the others share a disk; its copy of the data lacks a shard.
    hide = (
        f"mount -t tmpfs none {shared} && mkdir {shared}/runs && cp -r {DATA} {shared}/data && rm {shared}/data/*0.tar"
    )
    with nodes(3) as three:
        route = ["ip", "route", "add", "blackhole", f"{three.address(2)}/32"]
        subprocess.run(three.on(1, route), check=True)
        found, status = examine(
            three,
            shared / "runs/a",
            tmp_path / "logs",
            shared / "data",
            extra={1: {"PYTHONPATH": str(other)}},
            prefix={2: ["unshare", "-m", "sh", "-c", f'{hide} && exec "$@"', "sh"]},
        )
        first, second, third = (three.address(node) for node in range(3))
    for area in ("connections", "same code", "same data", "shared run folder"):
        print(f"{area}: {found[area]['value']}\n  {found[area]['advice']}")
        assert found[area]["level"] == "fail"
    assert f"({second}) does not reach" in found["connections"]["value"]
    assert f"({first})" not in found["connections"]["value"]
    assert any(second in line and first not in line for line in found["same code"]["value"].splitlines())
    assert any(third in line and "missing" in line for line in found["same data"]["value"].splitlines())
    assert third in found["shared run folder"]["value"]
    assert any(area.startswith("run folder, ") and third in area for area in found), "node 2's is in memory"
    assert all(status), "no launcher may take this for a success"
