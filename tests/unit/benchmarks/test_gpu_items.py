"""The GPU session rehearsed on a CPU at tiny sizes: what every item finds."""

from __future__ import annotations

import dataclasses
import importlib
import math
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import torch

from benchmarks.gpu import cifar, operators
from benchmarks.gpu.collectives import CALLS, collectives
from benchmarks.gpu.findings import Finding, Findings, is_failure, read_findings
from benchmarks.gpu.items import ITEMS
from benchmarks.gpu.job import Inputs, Job
from benchmarks.gpu.machine import machine
from benchmarks.gpu.peer import OPERATIONS, peer
from benchmarks.gpu.peer import REHEARSED as PEER_REHEARSED
from benchmarks.gpu.resume import resume
from benchmarks.gpu.speed import speed
from benchmarks.gpu.steps import steps
from benchmarks.gpu.switches import REHEARSED, switches

ROOT = Path(__file__).parents[3]


def job(folder: Path, *, seconds: float = 600.0, **inputs: Path) -> Job:
    return Job(
        device=torch.device("cpu"),
        deadline=time.monotonic() + seconds,
        findings=Findings(folder, item="item"),
        inputs=Inputs(**inputs),
    )


def found(folder: Path) -> list[Finding]:
    """All findings, none of them a failure."""
    findings = read_findings(folder, item="item")
    assert findings
    assert not [finding for finding in findings if is_failure(finding)]
    return findings


@pytest.fixture(autouse=True)
def _process_state(monkeypatch: pytest.MonkeyPatch) -> Any:
    """What items set in a process of their own is set back."""
    for name in ("RANK", "WORLD_SIZE", "LOCAL_RANK", "LOCAL_WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT"):
        monkeypatch.setenv(name, "")  # remembered, and so set back whatever an item makes of it
        monkeypatch.delenv(name)
    monkeypatch.setenv("CUBLAS_WORKSPACE_CONFIG", "")
    tf32 = torch.backends.cudnn.allow_tf32
    yield
    torch.backends.cudnn.allow_tf32 = tf32
    torch.backends.cudnn.benchmark = False


def test_the_machine_is_described(tmp_path: Path) -> None:
    machine(job(tmp_path))
    first, *rates = found(tmp_path)
    assert (first["device"], first["torch"]) == ("cpu", torch.__version__)
    assert {row["matrix_product"] for row in rates if "matrix_product" in row} == {"bf16", "fp16", "tf32", "fp32"}
    assert all(value > 0 for row in rates for name, value in row.items() if name.endswith("per_s"))


def test_operators_are_within_their_bounds(tmp_path: Path) -> None:
    operators.operators(job(tmp_path))
    rows = found(tmp_path)
    assert {(row["operator"], row["mode"]) for row in rows if "mode" in row} == {
        (name, mode.name) for name in operators.REHEARSED for mode in operators.MODES
    }
    assert all(row["ok"] for row in rows)
    by_mode = {mode: max(row["errors"][1] for row in rows if row.get("mode") == mode) for mode in ("fp32", "bf16")}
    assert 0 < by_mode["fp32"] < 1e-5 < by_mode["bf16"]  # the bounds tell precisions apart


def test_a_wrong_operator_is_a_failure(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A kernel that is right in float64 and 1 % off otherwise."""

    def wrong(x: torch.Tensor, w: torch.Tensor) -> torch.Tensor:
        return x * x if x.dtype == torch.float64 else x * x * 1.01

    monkeypatch.setattr(operators, "REHEARSED", ("wrong",))
    monkeypatch.setattr(operators, "cases", lambda: {"wrong": operators.Case(apply=wrong, shape=(4, 4))})
    operators.operators(job(tmp_path))
    states = {row["mode"]: row["ok"] for row in read_findings(tmp_path, item="item") if "mode" in row}
    assert (states["fp32"], states["tf32"], states["bf16"]) == (False, False, True)


def test_every_operator_is_differentiated_twice() -> None:
    for name, case in operators.cases().items():
        x, w = torch.rand(case.shape).double(), torch.rand(case.weight_shape).double()
        value, first, in_x, in_weight = operators.derivatives(case.apply, x, w)
        assert all(tensor.isfinite().all() for tensor in (value, first, in_x, in_weight)), name
        assert float(first.norm()) > 0, name
        assert float(in_x.norm()) > 0, name
        assert (float(in_weight.norm()) > 0) == (case.weight_shape != (1,)), name


def test_a_step_equals_the_cpus_own(tmp_path: Path) -> None:
    steps(job(tmp_path))
    rows = {row["precision"]: row for row in found(tmp_path)}
    assert rows.keys() == {"bf16", "fp32"}
    assert all(row["finite"] and all(map(math.isfinite, row["losses"].values())) for row in rows.values())
    assert rows["fp32"]["score_difference"] == 0.0  # two plays of the same step on the same device
    assert set(rows["fp32"]["weight_difference"].values()) == {0.0}


def test_every_kind_of_collective_call(tmp_path: Path) -> None:
    collectives(job(tmp_path))
    assert {row["call"] for row in found(tmp_path) if "call" in row} == CALLS.keys()


def test_speed_has_a_pace_and_a_profile(tmp_path: Path) -> None:
    speed(job(tmp_path))
    pace, profile = found(tmp_path)
    assert pace["s_per_kimg"] * pace["images_per_s"] == pytest.approx(1000, rel=0.01)
    assert pace["median_host_ms"] <= pace["median_step_ms"]
    assert profile["host_reads"] > 0
    assert "aten::convolution_backward" in profile["longest_ms"]


def test_switches_leave_nothing_behind(tmp_path: Path) -> None:
    switches(job(tmp_path))
    rows = found(tmp_path)
    assert [row["switch"] for row in rows] == [switch.name for switch in REHEARSED[0][2]]
    assert all(row["s_per_kimg"] > 0 for row in rows if "refused" not in row)
    assert {row["switch"] for row in rows if "refused" in row} <= {"channels_last weights"}
    assert not torch.backends.cudnn.benchmark


def test_a_resumed_run_has_the_same_bits(tmp_path: Path) -> None:
    resume(job(tmp_path))
    rows = found(tmp_path)
    assert [row["deterministic"] for row in rows] == [False, True]
    assert all(row["tensors"] > 100 and row["different"] == 0 for row in rows)
    assert not torch.are_deterministic_algorithms_enabled()


def test_an_item_whose_time_is_up_says_what_it_left_out(tmp_path: Path) -> None:
    switches(job(tmp_path, seconds=0.0))
    rows = found(tmp_path)
    assert len(rows) == len(REHEARSED[0][2])
    assert all("skipped" in row for row in rows)


def test_items_without_their_input_are_skipped(tmp_path: Path) -> None:
    peer(job(tmp_path / "peer"))
    cifar.cifar(job(tmp_path / "cifar"))
    for name, flag in (("peer", "--peer"), ("cifar", "--cifar")):
        (row,) = found(tmp_path / name)
        assert flag in row["skipped"]


def test_the_command_keeps_going_after_an_item_that_fails(tmp_path: Path) -> None:
    """As on the other machine: MLflow and DeepSpeed hidden, and a checkout in which nothing is."""
    hidden, out, empty = tmp_path / "hidden", tmp_path / "out", tmp_path / "empty"
    for folder in (hidden, empty):
        folder.mkdir()
    (hidden / "sitecustomize.py").write_text(
        "import sys\nsys.modules['mlflow'] = None\nsys.modules['deepspeed'] = None\n"
    )
    command = [sys.executable, "-m", "benchmarks.gpu", "--out", str(out), "--device", "cpu", "--json"]
    command += ["--only", "peer,speed", "--peer", str(empty), "--scale", "2"]
    environment = os.environ | {"PYTHONPATH": f"{hidden}:{ROOT}"}
    done = subprocess.run(command, capture_output=True, text=True, env=environment, cwd=ROOT)
    assert done.returncode == 1, done.stderr
    states = dict(line.split(",")[0].split(": ") for line in done.stderr.splitlines() if ": " in line)
    assert states == {"peer": "failed", "speed": "ok"}
    assert all(row["recipe"] for row in read_findings(out, item="speed"))
    (failure,) = read_findings(out, item="peer")
    assert "ModuleNotFoundError" in failure["failed"]


def test_items_have_names_of_their_own_and_fit_a_session() -> None:
    assert len({item.name for item in ITEMS}) == len(ITEMS)
    without_data = [item.budget_seconds for item in ITEMS if item.name not in ("peer", "cifar")]
    assert sum(without_data) <= 480


def test_training_is_asked_to_end_when_its_time_is_up(tmp_path: Path) -> None:
    program = """
import signal, sys, time
signal.signal(signal.SIGTERM, lambda *_: sys.exit("saved"))
print("begun", flush=True)
time.sleep(600)
"""
    process = subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    assert process.stdout is not None
    with process.stdout as output:
        assert output.readline() == b"begun\n"
        list(cifar.lasting(process, seconds=0.0))
        assert (process.returncode, output.read()) == (1, b"saved\n")


PEER = {
    "torch_utils/__init__.py": "",
    "torch_utils/ops/__init__.py": "",
    **{f"torch_utils/ops/{name}.py": "def _init():\n    return True\n" for name in OPERATIONS},
    "training/__init__.py": "",
    "training/networks_stylegan2.py": """
from torch import nn
class Generator(nn.Linear):
    def __init__(self, *, z_dim, c_dim, w_dim, img_resolution, img_channels, mapping_kwargs, **synthesis_kwargs):
        super().__init__(z_dim, img_channels)
class Discriminator(nn.Linear):
    def __init__(self, *, c_dim, img_resolution, img_channels, channel_base, num_fp16_res, conv_clamp, epilogue_kwargs):
        super().__init__(img_channels, 1)
""",
    "training/loss.py": """
from pkg_resources import parse_version
assert parse_version("1.11.0a") < parse_version("2.8.0+cpu")
phases = []
class StyleGAN2Loss:
    def __init__(self, device, G, D, r1_gamma, style_mixing_prob, pl_weight, pl_no_weight_grad):
        self.G, self.D = G, D
    def accumulate_gradients(self, phase, real_img, real_c, gen_z, gen_c, gain, cur_nimg):
        phases.append((phase, gain, [n.weight.requires_grad for n in (self.G, self.D)]))
        self.D(self.G(gen_z)).sum().mul(gain).backward()
""",
}
"""What a checkout of stylegan3 looks like from outside: the names and arguments that the item calls."""


def test_a_checkout_of_the_peer_is_played_by_its_own_rules(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, text in PEER.items():
        path = tmp_path / "peer" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    monkeypatch.setattr(sys, "path", [*sys.path])
    monkeypatch.setitem(sys.modules, "pkg_resources", None)  # as where setuptools no longer brings it
    monkeypatch.setattr("benchmarks.gpu.peer.REHEARSED", dataclasses.replace(PEER_REHEARSED, warm_up=1, steps=4))
    peer(job(tmp_path / "out", peer=tmp_path / "peer"))
    (row,) = found(tmp_path / "out")
    assert row["s_per_kimg"] > 0
    phases = importlib.import_module("training.loss").phases
    for name in [name for name in sys.modules if name.partition(".")[0] in ("training", "torch_utils")]:
        monkeypatch.delitem(sys.modules, name)
    every_step = [("Gmain", 1, [True, False]), ("Dmain", 1, [False, True])]
    first = [every_step[0], ("Greg", 4, [True, False]), every_step[1], ("Dreg", 16, [False, True])]
    assert phases == [*first, *every_step * 3, every_step[0], ("Greg", 4, [True, False]), every_step[1]]


def test_the_cifar_command_is_the_products_own() -> None:
    command = cifar.command(
        cifar.Setting(),
        shards=Path("shards"),
        weights=Path("weights"),
        out=Path("out"),
        device=torch.device("cuda"),
        every_images=256_000,
    )
    done = subprocess.run(
        [*command, "--device", "cpu", "--dry-run"],
        capture_output=True,
        text=True,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
    )
    assert done.returncode == 0, done.stdout + done.stderr
