"""Finds out who started this process and with how many others, and gives the answer under the names torch expects.

Every launcher that starts N processes is recognised here, so that N processes never train as N worlds of one.

Accelerate tells the processes it starts about engine and precision, but not everything. With its CPU settings, or
without a GPU, it starts one process whatever number it was asked for, and does not say so: only its command line and
its configuration file have the number. They are read here with its own parser.
"""

from __future__ import annotations

import functools
import os
import re
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import psutil

from framework.runtime.stopping import STARTING_PARENT
from framework.utils.errors import FrameworkError

TOLD = "ACCELERATE_MIXED_PRECISION"
"""`accelerate launch` sets this for every process, however it starts it."""

LAUNCH = ("accelerate-launch", "accelerate.commands.launch")
COMMAND = ("accelerate", "accelerate.commands.accelerate_cli")


@dataclass(frozen=True, kw_only=True)
class Asked:
    """The settings of a launch, from the command line and the configuration file together."""

    processes: int = 1
    machines: int = 1
    machine_rank: int = 0
    address: str | None = None
    port: int | None = None
    mpirun: bool = False
    """Whether Accelerate hands the processes to `mpirun`."""
    accumulation: int = 1
    """`--gradient_accumulation_steps`; 1 if not given."""


@functools.cache
def asked_of_accelerate() -> Asked | None:
    """Return what the `accelerate launch` above this process was asked for; None without one.

    The answer is cached, because the launcher may end before this process does.
    """
    if TOLD not in os.environ:
        return None
    for command in _commands_above():
        arguments = launch_arguments(command)
        if arguments is not None:
            return parse(arguments)
    return None


def _commands_above() -> list[list[str]]:
    """Return the command lines of the processes above this one, nearest first."""
    commands: list[list[str]] = []
    for process in psutil.Process().parents():
        try:
            commands.append(process.cmdline())
        except psutil.Error:  # another user's, or it has just ended
            continue
    return commands


def launch_arguments(command: Sequence[str]) -> list[str] | None:
    """Return what follows `accelerate launch`, in any of the ways to write it; None if the command is another one."""
    for index, word in enumerate(command):
        name, following = Path(word).name, command[index + 1 : index + 2]
        if name in LAUNCH or word.endswith("accelerate/commands/launch.py"):
            return list(command[index + 1 :])
        cli = name in COMMAND or word.endswith("accelerate_cli.py")
        if cli and following == ["launch"]:
            return list(command[index + 2 :])
    return None


def parse(arguments: Sequence[str]) -> Asked:
    """Parse the flags and, where they are silent, the configuration file.

    It is the file named by the flags, or Accelerate's default file if that exists.
    """
    from accelerate.commands.config.config_args import default_config_file, load_config_from_file
    from accelerate.commands.launch import launch_command_parser

    flags, _ = launch_command_parser().parse_known_args([*arguments])
    named = flags.config_file is not None
    # --cpu without a named file: Accelerate does not look at the default one.
    file = load_config_from_file(flags.config_file) if named or _is_there(default_config_file, flags.cpu) else None

    def either(name: str) -> object:
        given = getattr(flags, name, None)
        return getattr(file, name, None) if given is None else given

    def section(name: str) -> dict[str, object]:
        return getattr(file, name, None) or {}

    accumulation = flags.gradient_accumulation_steps or section("deepspeed_config").get("gradient_accumulation_steps")
    address, port = either("main_process_ip"), either("main_process_port")
    return Asked(
        processes=_count(either("num_processes")),
        machines=_count(either("num_machines")),
        machine_rank=int(str(either("machine_rank") or 0)),
        address=None if address is None else str(address),
        port=None if port is None else int(str(port)),
        mpirun=bool(flags.mpirun_hostfile or section("mpirun_config").get("mpirun_hostfile")),
        accumulation=_count(accumulation),
    )


def _is_there(default_file: str, cpu: bool) -> bool:
    return not cpu and os.path.isfile(default_file)


def _count(value: object) -> int:
    """Return the number, at least one; `auto` and nothing are one."""
    return max(1, int(str(value))) if str(value).lstrip("-").isdigit() else 1


ALONE = ("--rdzv_backend", "memory", "--rdzv_endpoint", "localhost:0", "--rdzv_id", "training")
"""torchrun's options for one machine; `framework.runtime.torchrun` has this backend.

`--standalone` would listen on all interfaces, and unpickle what anybody writes there.
"""

MPI = {
    "mpirun (Open MPI)": ("OMPI_COMM_WORLD_RANK", "OMPI_COMM_WORLD_SIZE", "OMPI_COMM_WORLD_LOCAL_RANK"),
    "mpirun (MVAPICH)": ("MV2_COMM_WORLD_RANK", "MV2_COMM_WORLD_SIZE", "MV2_COMM_WORLD_LOCAL_RANK"),
    "mpirun (MPICH or Intel MPI)": ("PMI_RANK", "PMI_SIZE", "MPI_LOCALRANKID"),
}
SLURM = {"srun": ("SLURM_PROCID", "SLURM_NTASKS", "SLURM_LOCALID")}
LOCAL_SIZES = ("OMPI_COMM_WORLD_LOCAL_SIZE", "MV2_COMM_WORLD_LOCAL_SIZE", "MPI_LOCALNRANKS", "LOCAL_SIZE")
"""Processes on this machine; the last one is DeepSpeed's."""
TORCH_ELASTIC = "TORCHELASTIC_RUN_ID"
DEEPSPEED = "CROSS_RANK"


class LaunchError(FrameworkError):
    """The processes were started in a way that cannot train together."""


def adopt_environment() -> None:
    """Set the variables torch expects from those of other launchers; start the processes that Accelerate did not.

    Raises:
        LaunchError: several processes were started, but nothing says where the first one listens or which one this is.
    """
    # torchrun and its like have set everything, or half of it.
    if "RANK" in os.environ or "WORLD_SIZE" in os.environ:
        if "WORLD_SIZE" not in os.environ:
            raise LaunchError(
                f"RANK={os.environ['RANK']} is set and WORLD_SIZE is not: every process would train alone; unset RANK, "
                "or start with `accelerate launch`, torchrun or launch/torchrun/node.sh"
            )
        if here := _tasks_here():  # DeepSpeed's launcher says it under another name
            os.environ.setdefault("LOCAL_WORLD_SIZE", str(here))
        return

    # MPI and Slurm name the same things otherwise.
    for launcher, names in (MPI | SLURM).items():
        # An interactive Slurm allocation has SLURM_NTASKS but no task of ours in it.
        if not all(name in os.environ for name in names) or int(os.environ[names[1]]) == 1:
            continue
        if not {"MASTER_ADDR", "MASTER_PORT"} <= os.environ.keys():
            raise LaunchError(
                f"{launcher.split()[0]} started {os.environ[names[1]]} processes, but MASTER_ADDR and MASTER_PORT are "
                "not set: export the first node's name and a free port before it"
            )
        for ours, theirs in zip(("RANK", "WORLD_SIZE", "LOCAL_RANK"), names, strict=True):
            os.environ[ours] = os.environ[theirs]
        if here := _tasks_here():
            os.environ["LOCAL_WORLD_SIZE"] = str(here)
        return
    _refuse_unknown_ranks()

    # Accelerate starts a single process on CPUs, whatever it was asked for.
    asked = asked_of_accelerate()
    if asked is not None and asked.processes > 1:
        _start_the_others(asked)


def _refuse_unknown_ranks() -> None:
    """Refuse a launch whose variables speak of several processes, but not of all that is needed to join them."""
    for names in MPI.values():
        if int(os.environ.get(names[1], "1")) > 1:
            missing = ", ".join(name for name in names if name not in os.environ)
            raise LaunchError(
                f"{names[1]}={os.environ[names[1]]}, but {missing} is not set: every process would train alone; set "
                "RANK, WORLD_SIZE, LOCAL_RANK, MASTER_ADDR and MASTER_PORT, or use launch/torchrun/node.sh"
            )


def _start_the_others(asked: Asked) -> None:
    """Become torchrun for the processes that `accelerate launch` was asked for.

    With its CPU settings, or without a GPU, it starts one process only, which is this one.

    Raises:
        LaunchError: the address of the first machine is not known, or the machines cannot share the processes evenly.
    """
    if asked.mpirun:
        raise LaunchError(
            f"`accelerate launch` handed {asked.processes} processes to an mpirun whose variables are not known here; "
            "use launch/mpi/mpirun.sh"
        )
    options = ["--nproc_per_node", str(asked.processes // asked.machines)]
    if asked.machines == 1:
        options += ALONE
    elif asked.address is None or asked.processes % asked.machines:
        raise LaunchError(
            f"`accelerate launch` was asked for {asked.processes} processes on {asked.machines} machines: give "
            "--main_process_ip, and a number of processes that the number of machines divides"
        )
    else:
        options += ["--nnodes", str(asked.machines), "--node_rank", str(asked.machine_rank)]
        options += ["--master_addr", asked.address, "--master_port", str(asked.port or 29500)]
    _end_with_the_parent()
    program = [sys.executable, "-P", str(Path(__file__).with_name("torchrun.py")), *options]
    sys.stdout.flush()
    os.execv(sys.executable, [*program, "--no-python", sys.executable, *sys.orig_argv[1:]])


def _end_with_the_parent() -> None:
    """Let the system stop torchrun when `accelerate launch` ends: with one process, Accelerate hands no signal on."""
    if sys.platform == "linux":
        import ctypes
        import signal

        pr_set_pdeathsig = 1
        ctypes.CDLL(None).prctl(pr_set_pdeathsig, int(signal.SIGTERM), 0, 0, 0)


def _tasks_here() -> int | None:
    """Return how many processes a launcher started on this machine; Slurm writes `8(x2),4` for 8, 8 and 4 by node."""
    for name in LOCAL_SIZES:
        if name in os.environ:
            return int(os.environ[name])
    counts: list[int] = []
    for part in os.environ.get("SLURM_STEP_TASKS_PER_NODE", "").split(","):
        if found := re.fullmatch(r"(\d+)(?:\(x(\d+)\))?", part):
            counts += [int(found[1])] * int(found[2] or 1)
    node = int(os.environ.get("SLURM_NODEID", "0"))
    return counts[node] if node < len(counts) else None


def local_processes() -> int:
    """Return the number of processes of this launch on this machine."""
    return int(os.environ.get("LOCAL_WORLD_SIZE", "1"))


def told_processes() -> int:
    """Return the number of processes the user asked the launcher for.

    Raises:
        LaunchError: WORLD_SIZE is not a number, or Accelerate started one of several processes and their number cannot
            be found.
    """
    if "WORLD_SIZE" in os.environ:
        if not os.environ["WORLD_SIZE"].isdigit():
            raise LaunchError(f"WORLD_SIZE={os.environ['WORLD_SIZE']!r} is not a number of processes")
        return int(os.environ["WORLD_SIZE"])
    asked = asked_of_accelerate()
    if asked is None and TOLD in os.environ and {"MASTER_ADDR", "MASTER_PORT"} <= os.environ.keys():
        raise LaunchError(
            "`accelerate launch` was asked for several processes and started one, and its command line cannot be read; "
            "use launch/torchrun/node.sh, or a configuration with distributed_type: MULTI_GPU such as "
            "launch/accelerate/cpu_2.yaml"
        )
    return asked.processes if asked is not None else 1


def launcher_to_watch() -> int | None:
    """Return the process id of the launcher that started this process.

    None says that a person started it, so that it may outlive its shell.
    """
    started = (TORCH_ELASTIC, TOLD, DEEPSPEED)
    sizes = [names[1] for names in (MPI | SLURM).values() if all(name in os.environ for name in names)]
    if any(name in os.environ for name in started) or any(int(os.environ[size]) > 1 for size in sizes):
        return STARTING_PARENT
    return None
