"""What a launcher wishes for, in real launches of two processes: adopted, refused by name, or a contradiction."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from framework.checkpoint import list_checkpoints
from tests.helpers.launch import ROOT, TINY, environment, free_port

pytestmark = [pytest.mark.distributed, pytest.mark.slow]

WORLD = ("--num_processes", "2", "--main_process_port", "0")


def start(*command: str, home: Path, extra: dict[str, str] | None = None) -> subprocess.Popen[str]:
    """A command under an Accelerate whose default configuration is in `home`."""
    return subprocess.Popen(
        [sys.executable, *command],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        cwd=ROOT,  # launch/accelerate/deepspeed.yaml names launch/deepspeed/zero2.json
        env=environment() | {"HF_HOME": str(home)} | (extra or {}),
    )


def accelerate(*words: str, home: Path) -> subprocess.Popen[str]:
    return start(str(Path(sys.executable).parent / "accelerate"), "launch", *words, home=home)


def ended(process: subprocess.Popen[str]) -> tuple[int, str, str]:
    out, errors = process.communicate(timeout=250)
    return process.returncode, out, errors


def adopted(out: str) -> tuple[object, ...]:
    """Engine, precision, micro-batches and processes of a dry run; DeepSpeed's launcher prints around its JSON."""
    report, _ = json.JSONDecoder().raw_decode(out[out.index("{\n") :])
    return tuple(report[name] for name in ("engine", "precision", "micro_batches", "processes"))


def default_configuration(home: Path, **entries: object) -> None:
    """As `accelerate config` leaves it."""
    (home / "accelerate").mkdir(parents=True)
    common = {"compute_environment": "LOCAL_MACHINE", "num_machines": 1, "machine_rank": 0, "num_processes": 2}
    (home / "accelerate/default_config.yaml").write_text(yaml.safe_dump(common | entries))


def test_a_wish_is_adopted(tmp_path: Path) -> None:
    """In a dry run, which tells what a launch would do."""
    flags = ("--use_deepspeed", "--zero_stage", "3", "--mixed_precision=bf16", "--gradient_accumulation_steps=4")
    status, out, errors = ended(accelerate(*WORLD, *flags, str(TINY), "--dry-run", "--json", home=tmp_path))
    assert status == 0, errors
    assert adopted(out) == ("zero3", "bf16", 4, 2)
    assert ": as launched" in errors


def test_a_configuration_for_two_cpu_processes_starts_two(tmp_path: Path) -> None:
    """Accelerate starts one, and does not say that it was asked for more."""
    default_configuration(tmp_path, distributed_type="MULTI_CPU", use_cpu=True, mixed_precision="bf16")
    flags = ("--images", "32", "--tracking", "none", "--out", str(tmp_path / "run"))
    status, out, errors = ended(accelerate(str(TINY), *flags, home=tmp_path))
    assert status == 0, errors
    assert "bf16, device cpu: as launched\n" in out
    assert "2 process(es) on cpu, engine ddp, bf16" in out
    assert list_checkpoints(tmp_path / "run/checkpoints") == [32]


def test_what_cannot_be_is_refused_in_one_sentence(tmp_path: Path) -> None:
    """A wish that cannot be honoured, and one that a flag contradicts."""
    default_configuration(tmp_path, distributed_type="FSDP", fsdp_config={"fsdp_version": 2}, main_process_port=0)
    out = ("--out", str(tmp_path / "run"))
    compiled = accelerate(*WORLD, "--dynamo_backend", "inductor", str(TINY), *out, home=tmp_path / "none")
    contradicted = accelerate(str(TINY), "--engine", "zero2", *out, home=tmp_path)
    for process, sentence in (
        (compiled, "the launcher's dynamo_backend inductor cannot be honoured: networks are not compiled"),
        (contradicted, "--engine zero2 contradicts the launcher's FSDP (fsdp2): leave one of them out"),
    ):
        status, _, errors = ended(process)
        assert status == 1
        assert errors.count(f"error: {sentence}\n") == 1, errors
        assert "Traceback" not in errors[: errors.index(sentence)]
    # Torch's launcher reports at length, so it repeats the sentence at the end, with one entry and not one a process.
    assert errors.splitlines()[-2].endswith(f"traceback : {sentence}"), errors
    assert "<NO_OTHER_FAILURES>" in errors
    assert not (tmp_path / "run").exists()


def test_wishes_train(tmp_path: Path) -> None:
    """ZeRO by our configuration file and by flags, and FSDP2 in two micro-batches."""
    pytest.importorskip("deepspeed", reason="DeepSpeed is not installed")
    common = (str(TINY), "--images", "32", "--tracking", "none", "--out")
    config = ("--config_file", str(ROOT / "launch/accelerate/deepspeed.yaml"))
    zero3 = (*WORLD, "--use_deepspeed", "--zero_stage", "3")
    fsdp = (*WORLD, "--use_fsdp", "--fsdp_version", "2", "--gradient_accumulation_steps=2")
    kinds = (("zero2", config, "zero2"), ("zero3", zero3, "zero3"), ("fsdp2", fsdp, "fsdp2, 2 micro-batches"))
    for engine, flags, told in kinds:
        status, out, errors = ended(accelerate(*flags, *common, str(tmp_path / engine), home=tmp_path))
        assert status == 0, errors
        assert f"engine {told}: as launched\n" in out
        assert f"2 process(es) on cpu, engine {engine}, fp32" in out
        assert "FutureWarning" not in errors
        assert list_checkpoints(tmp_path / engine / "checkpoints") == [32]


def test_deepspeed_s_own_launcher(tmp_path: Path) -> None:
    """It puts --local_rank before the recipe's flags; two "accelerators" are two processes here."""
    pytest.importorskip("deepspeed", reason="DeepSpeed is not installed")
    world = (
        "eyJsb2NhbGhvc3QiOiBbMCwgMV19"  # {"localhost": [0, 1]}, as `deepspeed` hands it to the launcher of a machine
    )
    launcher = ("-m", "deepspeed.launcher.launch", f"--world_info={world}", "--master_addr=127.0.0.1")
    recipe = (f"--master_port={free_port()}", str(TINY), "--engine", "zero3", "--dry-run", "--json")
    process = start(*launcher, *recipe, home=tmp_path, extra={"DS_ACCELERATOR": "cpu"} | os.environ)
    status, out, errors = ended(process)
    assert status == 0, errors
    assert adopted(out) == ("zero3", "fp32", 1, 2)
