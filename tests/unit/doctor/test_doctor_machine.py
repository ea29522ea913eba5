"""Advice about this machine, each provoked: by a mount, an affinity, a broken package, a control group's limits."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from packaging.requirements import Requirement

from framework.doctor import machine
from framework.doctor.finding import Finding, as_json, fail, ok, show, warn, worst
from tests.helpers.launch import ROOT, environment


def doctor(*flags: str, prefix: tuple[str, ...] = (), extra: dict[str, str] | None = None) -> dict[str, Any]:
    """`python -m framework.doctor --quick --json`: its report, with the exit status."""
    done = subprocess.run(
        [*prefix, sys.executable, "-m", "framework.doctor", "--quick", "--json", *flags],
        capture_output=True,
        text=True,
        env=environment() | (extra or {}),
        timeout=120,
    )
    assert "Traceback" not in done.stderr, done.stderr
    report = json.loads(done.stdout)
    assert done.returncode == (1 if report["status"] == "fail" else 0)
    return report


def by_area(report: dict[str, Any]) -> dict[str, dict[str, str]]:
    return {finding["area"]: finding for finding in report["findings"]}


def test_this_machine_is_ready(tmp_path: Path) -> None:
    report = doctor("--out", str(tmp_path / "run"), "--data", str(ROOT / "recipes/data/fashion_mnist"))
    found = by_area(report)
    assert report["status"] in ("ok", "warn"), report
    assert {"python", "packages", "torch", "cores", "memory", "shared memory", "GPU", "precision"} <= found.keys()
    assert {"run folder", "disk space", "disk speed", "atomic rename", "file locks", "port", "MLflow"} <= found.keys()
    assert "torch " in found["packages"]["value"]
    assert "1,750 samples" in found["data"]["value"]
    assert list(tmp_path.iterdir()) == []


def test_a_torch_that_cannot_be_loaded_is_a_line_and_not_a_traceback(tmp_path: Path) -> None:
    (tmp_path / "torch.py").write_text("raise ImportError('libcudart.so.12: cannot open shared object file')")
    report = doctor(extra={"PYTHONPATH": f"{tmp_path}:{ROOT}"})
    assert "libcudart.so.12" in by_area(report)["torch"]["value"]
    assert "pytorch.org" in by_area(report)["torch"]["advice"]


@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="no processor affinity on this system")
def test_one_core_is_said_to_be_few(tmp_path: Path) -> None:
    allowed = os.sched_getaffinity(0)
    try:
        os.sched_setaffinity(0, {min(allowed)})
        found = by_area(doctor("--out", str(tmp_path)))["cores"]
    finally:
        os.sched_setaffinity(0, allowed)
    assert found["level"] == "warn"
    assert found["value"].startswith("1 of ")


@pytest.mark.skipif(os.geteuid() != 0 or shutil.which("unshare") is None, reason="needs root to mount small disks")
def test_small_shared_memory_and_a_full_disk_in_a_mount_namespace(tmp_path: Path) -> None:
    mounts = f"mount -t tmpfs -o size=32m none /dev/shm && mount -t tmpfs -o size=40m none {tmpfs(tmp_path)}"
    report = doctor(
        "--out", str(tmp_path / "small/run"), prefix=("unshare", "-m", "sh", "-c", f'{mounts} && "$@"', "sh")
    )
    found = by_area(report)
    assert found["shared memory"]["level"] == "fail"
    assert "--shm-size" in found["shared memory"]["advice"]
    assert found["run folder"]["level"] == "warn"
    assert "gone at the next start" in found["run folder"]["advice"]
    assert found["disk space"]["level"] == "fail"
    assert "No space left" in found["disk speed"]["value"]
    assert report["status"] == "fail"


def tmpfs(folder: Path) -> Path:
    (folder / "small").mkdir()
    return folder / "small"


def test_missing_and_old_packages_are_named_with_the_command() -> None:
    found = list(machine.packages([Requirement("no-such-package>=2"), Requirement("torch>=99"), Requirement("numpy")]))
    levels = {finding.value.split()[0]: finding.level for finding in found}
    assert levels["no-such-package"] == "fail"
    assert levels["torch"] in ("warn", "ok")
    assert any("pip install -c constraints.txt 'torch>=99'" in finding.advice for finding in found)
    assert machine.missing(Requirement("deepspeed>=0.19")).level == "warn"


def test_every_requirement_of_this_package_is_met_here() -> None:
    wanted = {requirement.name for requirement in machine.requirements()}
    assert set(machine.SHOWN) <= wanted
    assert [f for f in machine.packages(machine.requirements()) if f.level == "fail"] == []


def test_a_container_s_limits_count(tmp_path: Path) -> None:
    (tmp_path / "cpu.max").write_text("150000 100000\n")
    assert machine.usable_cores(group=tmp_path / "cpu.max") == min(1.5, machine.usable_cores(group=tmp_path / "none"))
    (tmp_path / "cpu.max").write_text("max 100000\n")
    assert machine.usable_cores(group=tmp_path / "cpu.max") >= 1
    (tmp_path / "memory.max").write_text(str(3 << 30))
    (tmp_path / "memory.current").write_text(str(2 << 30))
    found = machine.memory(group=tmp_path)
    assert found.level == "warn"
    assert found.value == "1.0 GiB free of 3.0 GiB"
    (tmp_path / "memory.max").write_text("max")
    assert machine.usable_memory(group=tmp_path) == pytest.approx(machine.usable_memory(group=Path("/none")), rel=0.2)


def test_no_shared_memory_folder(tmp_path: Path) -> None:
    assert machine.shared_memory(folder=tmp_path / "none").level == ("warn" if sys.platform == "linux" else "ok")


def test_a_gpu_that_torch_cannot_use_is_not_the_same_as_none(monkeypatch: pytest.MonkeyPatch) -> None:
    assert machine.no_gpu(driver=False, build=None).level == "ok"
    assert "CPU build" in machine.no_gpu(driver=True, build=None).value
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    assert machine.no_gpu(driver=True, build="12.8").advice == "the driver is too old for CUDA 12.8"
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    assert "CUDA_VISIBLE_DEVICES='' hides it" in machine.no_gpu(driver=True, build="12.8").advice


def test_what_processes_talk_through() -> None:
    here = machine.backends()
    assert here.level == "ok"
    assert here.value.startswith("gloo")
    assert machine.judge_backends(gloo=True, nccl="2.27.3", on_gpu=True) == ok("backends", "gloo, NCCL 2.27.3")
    lost = machine.judge_backends(gloo=True, nccl="", on_gpu=True)
    assert (lost.level, lost.value) == ("fail", "gloo, no NCCL")
    assert "several GPUs need NCCL" in lost.advice
    assert machine.judge_backends(gloo=False, nccl="", on_gpu=False).level == "fail"


def test_the_report(capsys: pytest.CaptureFixture[str]) -> None:
    findings = [ok("a", "fine"), warn("b", "so so", "do this"), fail("c", "broken [x]", "do that")]
    assert worst(findings) == "fail"
    assert worst(findings[:2]) == "warn"
    assert json.loads(as_json(findings))["findings"][1]["advice"] == "do this"
    show(findings, title="t")
    text = capsys.readouterr().out
    assert "broken [x]" in text
    assert "do that" in text
    assert "not ready: 1 ok, 1 to look at, 1 failed" in text
    with pytest.raises(AssertionError):
        Finding(area="d", level="warn", value="no advice")
