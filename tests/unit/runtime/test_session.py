"""The ways of starting processes that would silently train N separate worlds of one."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from framework.runtime.session import (
    LaunchError,
    _asked_on_command_line,
    _tasks_here,
    adopt_environment,
    open_session,
    told_processes,
)


@pytest.mark.parametrize(
    ("command", "processes"),
    [
        (["python", "bin/accelerate", "launch", "--cpu", "--num_processes", "2", "x.py"], 2),
        (["python", "bin/accelerate", "launch", "--num-processes=4", "x.py", "--num_processes", "9"], 4),
        (["python", "bin/accelerate", "launch", "x.py"], 1),
        (["bash", "run.sh"], 1),
        ([], 1),
    ],
)
def test_what_the_launcher_was_asked_for(command: list[str], processes: int) -> None:
    assert _asked_on_command_line(command) == processes


def test_the_config_file_counts(tmp_path: Path) -> None:
    config = tmp_path / "c.yaml"
    config.write_text("num_processes: 8\n")
    assert _asked_on_command_line(["accelerate", "launch", "--config_file", str(config), "x.py"]) == 8


def test_a_world_of_one_where_more_were_asked_for_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        "framework.runtime.session._parent_command", lambda: ["accelerate", "launch", "--num_processes", "4"]
    )
    with pytest.raises(LaunchError, match="asked for 4 processes, but this one sees a world of 1"), open_session():
        raise AssertionError("must not open")


@pytest.mark.parametrize(
    "names",
    [
        ("OMPI_COMM_WORLD_RANK", "OMPI_COMM_WORLD_SIZE", "OMPI_COMM_WORLD_LOCAL_RANK"),
        ("SLURM_PROCID", "SLURM_NTASKS", "SLURM_LOCALID"),
    ],
)
def test_the_variables_of_mpirun_and_srun_are_adopted(monkeypatch: pytest.MonkeyPatch, names: tuple[str, ...]) -> None:
    ours = ("RANK", "WORLD_SIZE", "LOCAL_RANK")
    for name, value in zip(names, ("3", "8", "1"), strict=True):
        monkeypatch.setenv(name, value)
    for name in (*ours, "MASTER_ADDR", "MASTER_PORT"):
        monkeypatch.delenv(name, raising=False)
    with pytest.raises(LaunchError, match="MASTER_ADDR and MASTER_PORT are not set"):
        adopt_environment()
    monkeypatch.setenv("MASTER_ADDR", "node0")
    monkeypatch.setenv("MASTER_PORT", "29500")
    adopt_environment()
    assert [os.environ.pop(name) for name in ours] == ["3", "8", "1"]


@pytest.mark.parametrize(
    ("variables", "here"),
    [
        ({"OMPI_COMM_WORLD_LOCAL_SIZE": "4"}, 4),
        ({"SLURM_STEP_TASKS_PER_NODE": "8(x2),4", "SLURM_NODEID": "1"}, 8),
        ({"SLURM_STEP_TASKS_PER_NODE": "8(x2),4", "SLURM_NODEID": "2"}, 4),
        ({"SLURM_STEP_TASKS_PER_NODE": "2"}, 2),
        ({}, None),
    ],
)
def test_processes_on_this_machine(
    monkeypatch: pytest.MonkeyPatch, variables: dict[str, str], here: int | None
) -> None:
    for name in ("OMPI_COMM_WORLD_LOCAL_SIZE", "SLURM_STEP_TASKS_PER_NODE", "SLURM_NODEID"):
        monkeypatch.delenv(name, raising=False)
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    assert _tasks_here() == here


def test_a_world_size_that_is_no_number_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WORLD_SIZE", "abc")
    with pytest.raises(LaunchError, match="WORLD_SIZE='abc'"):
        told_processes()


def test_one_process_alone() -> None:
    with open_session(device="cpu") as session:
        assert (session.rank, session.world, session.device.type) == (0, 1, "cpu")
        assert session.broadcast_text("übertragen") == "übertragen"
        assert session.max_over_ranks(1.5) == 1.5


@pytest.mark.distributed
def test_accelerate_starting_one_process_instead_of_two_is_refused(tmp_path: Path) -> None:
    script = tmp_path / "script.py"
    script.write_text("from framework.runtime.session import open_session\nwith open_session(): print('trained')\n")
    launcher = Path(sys.executable).parent / "accelerate"
    environment = {k: v for k, v in os.environ.items() if k not in ("RANK", "WORLD_SIZE")}
    done = subprocess.run(
        [sys.executable, str(launcher), "launch", "--cpu", "--num_processes", "2", str(script)],
        capture_output=True,
        text=True,
        env=environment,
    )
    assert done.returncode != 0
    assert "asked for 2 processes, but this one sees a world of 1" in done.stderr
    assert "trained" not in done.stdout
