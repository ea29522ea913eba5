"""`framework` (= `python -m framework`): everything that is not a launch."""

from __future__ import annotations

import importlib
import sys
from dataclasses import dataclass

from framework.utils.errors import FrameworkError
from framework.utils.output import escape_unprintable
from framework.utils.suggest import nearest

USER_ERROR = 2
INTERRUPTED = 130  # as shells say it: 128 and the number of SIGINT


@dataclass(frozen=True, kw_only=True)
class Command:
    """The place of a command's function, which is imported only when it is called, so that `--help` stays quick."""

    module: str
    function: str
    summary: str


COMMANDS: dict[str, Command] = {
    "pack": Command(module="pack", function="pack", summary="images (folder, zip, idx, npz, WebDataset) -> shards"),
    "data verify": Command(module="data", function="verify", summary="check every shard: size, hash, headers, images"),
    "data index": Command(module="data", function="index", summary="write the index and manifest of foreign shards"),
    "data inspect": Command(module="data", function="inspect", summary="counts, classes and first keys of a data set"),
    "sample": Command(module="sample", function="sample", summary="images from a checkpoint or MLflow run"),
    "evaluate": Command(module="evaluate", function="evaluate", summary="FID, KID ... of checkpoints or images"),
    "import": Command(module="import_", function="import_", summary="weights of a public implementation -> checkpoint"),
    "export": Command(module="export", function="export", summary="a network as indexed safetensors, or for NVlabs"),
    "sync": Command(module="sync", function="sync", summary="upload a run's journal to MLflow, now or again"),
    "review": Command(module="review", function="review", summary="runs in MLflow, or as one HTML page (--out)"),
    "doctor": Command(module="doctor", function="doctor", summary="is this machine or cluster ready to train?"),
}

GROUPS = {name.split()[0] for name in COMMANDS if " " in name}


def main() -> None:
    """Run the command on the command line; exits with status 2 on an error the user can mend."""
    arguments = sys.argv[1:]
    if not arguments or arguments[0] in ("-h", "--help", "help"):
        print(usage())
        return
    if arguments[0] in ("-V", "--version"):
        from framework import __version__

        print(f"framework {__version__}")
        return
    if arguments[0] in GROUPS and arguments[1:2] in ([], ["-h"], ["--help"]):
        print(usage(prefix=f"{arguments[0]} "))
        return
    name, rest = split(arguments)
    if name not in COMMANDS:
        print(f"framework: no command {name!r}{nearest(name, COMMANDS)}\n\n{usage()}", file=sys.stderr)
        sys.exit(USER_ERROR)
    sys.exit(run(name, rest))


def split(arguments: list[str]) -> tuple[str, list[str]]:
    """Return the command's name, of one or two words, and its own arguments."""
    if any(command.startswith(f"{arguments[0]} ") for command in COMMANDS):
        return " ".join(arguments[:2]), arguments[2:]
    return arguments[0], arguments[1:]


def usage(*, prefix: str = "") -> str:
    """Return what `framework --help` prints, or the commands that begin with `prefix`."""
    chosen = {name: command for name, command in COMMANDS.items() if name.startswith(prefix)}
    width = max(map(len, chosen))
    lines = [f"  {name:<{width}}  {command.summary}" for name, command in chosen.items()]
    return "\n".join(
        [
            "usage: framework COMMAND [OPTIONS]",
            "",
            *lines,
            "",
            "framework COMMAND --help explains one of them. Training is `accelerate launch recipes/<recipe>.py`.",
        ]
    )


def run(name: str, arguments: list[str]) -> int:
    """Call one command with its arguments; returns the exit status."""
    import tyro

    from framework.utils.ranges import with_checked_flags

    escape_unprintable()
    command = COMMANDS[name]
    function = getattr(importlib.import_module(f"framework.commands.{command.module}"), command.function)
    try:
        status = tyro.cli(with_checked_flags(function), args=arguments, prog=f"framework {name}")
    except (FrameworkError, OSError) as error:  # a file that cannot be read or written names itself
        from framework.train.console import fail

        fail(str(error))
        return USER_ERROR
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        return INTERRUPTED
    return status if isinstance(status, int) else 0


if __name__ == "__main__":
    main()
