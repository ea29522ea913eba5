"""N processes never train as N worlds of one, whoever starts them."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest
import yaml

from framework.runtime import launchers, torchrun
from framework.runtime.launchers import (
    ALONE,
    Asked,
    LaunchError,
    _tasks_here,
    adopt_environment,
    asked_of_accelerate,
    launch_arguments,
    launcher_to_watch,
    parse,
    told_processes,
)
from framework.runtime.stopping import STARTING_PARENT
from tests.helpers.accelerated import default_file

OURS = ("RANK", "WORLD_SIZE", "LOCAL_RANK", "LOCAL_WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT")
OPEN_MPI = ("OMPI_COMM_WORLD_RANK", "OMPI_COMM_WORLD_SIZE", "OMPI_COMM_WORLD_LOCAL_RANK")
MVAPICH = ("MV2_COMM_WORLD_RANK", "MV2_COMM_WORLD_SIZE", "MV2_COMM_WORLD_LOCAL_RANK")
MPICH = ("PMI_RANK", "PMI_SIZE", "MPI_LOCALRANKID")
SLURM = ("SLURM_PROCID", "SLURM_NTASKS", "SLURM_LOCALID")
HERE = ("OMPI_COMM_WORLD_LOCAL_SIZE", "MV2_COMM_WORLD_LOCAL_SIZE", "MPI_LOCALNRANKS", "LOCAL_SIZE")
TOLD = ("ACCELERATE_MIXED_PRECISION", "TORCHELASTIC_RUN_ID", "CROSS_RANK", "SLURM_STEP_TASKS_PER_NODE", "SLURM_NODEID")


@pytest.fixture(autouse=True)
def _no_launcher(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in (*OURS, *OPEN_MPI, *MVAPICH, *MPICH, *SLURM, *HERE, *TOLD):
        monkeypatch.delenv(name, raising=False)
    default_file(monkeypatch, tmp_path / "default_config.yaml")


@pytest.mark.parametrize("names", [OPEN_MPI, MVAPICH, MPICH, SLURM], ids=lambda names: names[0])
def test_the_variables_of_mpirun_and_srun_are_adopted(monkeypatch: pytest.MonkeyPatch, names: tuple[str, ...]) -> None:
    assert launcher_to_watch() is None
    for name, value in zip(names, ("3", "8", "1"), strict=True):
        monkeypatch.setenv(name, value)
    assert launcher_to_watch() == STARTING_PARENT
    with pytest.raises(LaunchError, match="MASTER_ADDR and MASTER_PORT are not set"):
        adopt_environment()
    monkeypatch.setenv("MASTER_ADDR", "node0")
    monkeypatch.setenv("MASTER_PORT", "29500")
    adopt_environment()
    assert told_processes() == 8
    assert [os.environ.pop(name) for name in OURS[:3]] == ["3", "8", "1"]


@pytest.mark.parametrize("names", [OPEN_MPI, MVAPICH, MPICH], ids=lambda names: names[0])
def test_several_processes_without_all_variables_are_refused(
    monkeypatch: pytest.MonkeyPatch, names: tuple[str, ...]
) -> None:
    for name, value in zip(names[:2], ("1", "2"), strict=True):
        monkeypatch.setenv(name, value)
    with pytest.raises(LaunchError, match=f"{names[1]}=2, but {names[2]} is not set: every process would train alone"):
        adopt_environment()


def test_a_rank_without_a_number_of_processes_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RANK", "1")
    with pytest.raises(LaunchError, match="RANK=1 is set and WORLD_SIZE is not"):
        adopt_environment()


def test_a_world_size_that_is_no_number_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WORLD_SIZE", "abc")
    with pytest.raises(LaunchError, match="WORLD_SIZE='abc'"):
        told_processes()


@pytest.mark.parametrize(
    ("variables", "here"),
    [
        ({"OMPI_COMM_WORLD_LOCAL_SIZE": "4"}, 4),
        ({"MPI_LOCALNRANKS": "3"}, 3),
        ({"LOCAL_SIZE": "2"}, 2),
        ({"SLURM_STEP_TASKS_PER_NODE": "8(x2),4", "SLURM_NODEID": "1"}, 8),
        ({"SLURM_STEP_TASKS_PER_NODE": "8(x2),4", "SLURM_NODEID": "2"}, 4),
        ({"SLURM_STEP_TASKS_PER_NODE": "2"}, 2),
        ({}, None),
    ],
)
def test_processes_on_this_machine(
    monkeypatch: pytest.MonkeyPatch, variables: dict[str, str], here: int | None
) -> None:
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    assert _tasks_here() == here


@pytest.mark.parametrize(
    "command",
    [
        ["python", "/opt/bin/accelerate", "launch"],
        ["/opt/bin/accelerate-launch"],
        ["python3.11", "-m", "accelerate.commands.launch"],
        ["python", "/site-packages/accelerate/commands/launch.py"],
        ["python", "-m", "accelerate.commands.accelerate_cli", "launch"],
    ],
)
def test_every_way_to_write_accelerate_launch_is_read(command: list[str]) -> None:
    assert launch_arguments([*command, "--cpu", "x.py"]) == ["--cpu", "x.py"]


@pytest.mark.parametrize("command", [[], ["bash", "run.sh"], ["accelerate", "config"], ["torchrun", "x.py", "launch"]])
def test_other_commands_are_not_taken_for_it(command: list[str]) -> None:
    assert launch_arguments(command) is None


@pytest.mark.parametrize(
    ("flags", "processes"),
    [
        (["--cpu", "--num_processes", "2", "x.py"], 2),
        (["--num-processes=4", "x.py", "--num_processes", "9"], 4),
        (["x.py"], 1),
        (["--config_file", "FILE", "x.py"], 8),
        (["--config_file", "FILE", "--num_processes", "2", "x.py"], 2),
    ],
)
def test_flags_and_files_are_read_as_accelerate_reads_them(tmp_path: Path, flags: list[str], processes: int) -> None:
    file = tmp_path / "c.yaml"
    file.write_text("distributed_type: MULTI_CPU\nnum_processes: 8\n")
    assert parse([str(file) if flag == "FILE" else flag for flag in flags]).processes == processes


def test_the_default_file_counts_as_for_accelerate(tmp_path: Path) -> None:
    written = {"distributed_type": "MULTI_CPU", "num_processes": 4, "num_machines": 2, "machine_rank": 1}
    written |= {"main_process_ip": "first", "main_process_port": 29501, "use_cpu": True, "mixed_precision": "no"}
    (tmp_path / "default_config.yaml").write_text(yaml.safe_dump(written))
    expected = Asked(processes=4, machines=2, machine_rank=1, address="first", port=29501)
    assert parse(["x.py"]) == expected
    assert parse(["--cpu", "x.py"]).processes == 1, "Accelerate does not look at the default file then"


def test_a_default_file_in_json_and_mpirun(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "c.json").write_text(
        '{"distributed_type": "MULTI_CPU", "num_processes": 2, "mpirun_config": {"mpirun_hostfile": "hosts"}}'
    )
    default_file(monkeypatch, tmp_path / "c.json")
    assert parse(["x.py"]) == Asked(processes=2, mpirun=True)


def under_accelerate(monkeypatch: pytest.MonkeyPatch, *commands: list[str]) -> list[list[str]]:
    """As one process that the last of `commands` has started; returns what it becomes."""
    became: list[list[str]] = []
    monkeypatch.setenv("ACCELERATE_MIXED_PRECISION", "no")
    monkeypatch.setattr(launchers, "_commands_above", lambda: list(commands))
    monkeypatch.setattr(launchers, "asked_of_accelerate", asked_of_accelerate.__wrapped__)
    monkeypatch.setattr(launchers, "_end_with_the_parent", lambda: None)
    monkeypatch.setattr(os, "execv", lambda path, command: became.append(command))
    monkeypatch.setattr(sys, "orig_argv", ["python", "x.py", "--out", "runs/a"])
    return became


def test_one_process_of_accelerate_starts_the_others(monkeypatch: pytest.MonkeyPatch) -> None:
    shell = ["bash", "-c", "accelerate launch"]
    became = under_accelerate(monkeypatch, shell, ["accelerate", "launch", "--cpu", "--num_processes", "3", "x.py"])
    assert told_processes() == 3
    adopt_environment()
    ((*_, program, a, b, c, d, e, f, g, h, no_python, python, script, _, out),) = became
    assert (Path(program).name, a, b) == ("torchrun.py", "--nproc_per_node", "3")
    assert (c, d, e, f, g, h) == ALONE
    assert d == torchrun.MEMORY  # and not `--standalone`, which opens a port that unpickles
    assert (no_python, python, script, out) == ("--no-python", sys.executable, "x.py", "runs/a")
    assert launcher_to_watch() == STARTING_PARENT


def test_one_process_of_accelerate_on_each_machine_starts_the_others(monkeypatch: pytest.MonkeyPatch) -> None:
    flags = ["--num_processes", "4", "--num_machines", "2", "--machine_rank", "1", "--main_process_ip", "first"]
    became = under_accelerate(monkeypatch, ["accelerate-launch", *flags, "x.py"])
    adopt_environment()
    machines = "--nproc_per_node 2 --nnodes 2 --node_rank 1 --master_addr first --master_port 29500 --no-python"
    assert machines in " ".join(became[0])
    under_accelerate(monkeypatch, ["accelerate-launch", "--num_machines", "2", "--num_processes", "3", "x.py"])
    with pytest.raises(LaunchError, match="3 processes on 2 machines: give --main_process_ip"):
        adopt_environment()


def test_accelerate_with_one_process_is_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    became = under_accelerate(monkeypatch, ["accelerate", "launch", "--num_processes", "1", "x.py"])
    adopt_environment()
    assert (became, told_processes()) == ([], 1)


def test_accelerate_out_of_sight_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """It exports where processes meet only if it was asked for several."""
    under_accelerate(monkeypatch, ["bash", "run.sh"])
    assert told_processes() == 1
    monkeypatch.setenv("MASTER_ADDR", "127.0.0.1")
    monkeypatch.setenv("MASTER_PORT", "29500")
    with pytest.raises(LaunchError, match=r"started one, and its command line cannot be read; .* MULTI_GPU"):
        told_processes()


def test_an_mpirun_of_accelerate_with_unknown_variables_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    under_accelerate(monkeypatch, ["accelerate-launch", "--mpirun_hostfile", "h", "--num_processes", "2", "x.py"])
    with pytest.raises(LaunchError, match="handed 2 processes to an mpirun whose variables are not known"):
        adopt_environment()
