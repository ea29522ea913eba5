"""Reads what `accelerate launch` was asked for, with its own parser, from its command line and its configuration file.

Accelerate tells the processes it starts about engine and precision, but not everything. With its CPU settings, or
without a GPU, it starts one process whatever number it was asked for, and does not say so: only its command line has
the number.
"""

from __future__ import annotations

import functools
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import psutil

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
