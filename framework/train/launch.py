"""Launch a recipe: its file calls `launch(RECIPE)`, under `accelerate launch`, `torchrun`, `srun` or plain `python`.

A launch that ends early says why in one sentence, by the process it happened to, with the exit status that launchers
and schedulers act on.
"""

from __future__ import annotations

import dataclasses
import logging
import os
import re
import signal
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import NoReturn

import torch
import tyro

from framework.games.base import Game
from framework.games.microbatch import BatchPartition
from framework.recipe import Recipe, override
from framework.recipe.description import describe
from framework.runtime.family import end_family
from framework.runtime.launchers import adopt_environment, launcher_to_watch, told_processes
from framework.runtime.stopping import STOPPED, end_on_signals, end_with_launcher, tell_launcher
from framework.train.config import Flags, RunConfig
from framework.train.console import fail, warn
from framework.train.folder import RunFolder, run_folder
from framework.train.launcher import as_launched, check_clipping
from framework.train.network_check import Setting, check_networks
from framework.train.sources import data_location
from framework.utils.errors import FrameworkError
from framework.utils.output import escape_unprintable

USER_ERROR, PEER_LOST = 2, 1
FIRST_SECONDS = 2.0
"""Other processes wait so long; a launcher that sees one end stops the rest within about a tenth of a second."""
PEER_SECONDS = 3.0
"""A process that lost a peer waits longer still, so that the launcher sees the end of the failed one first."""


def end_with_error(message: str, *, alike: bool = False) -> NoReturn:
    """End with status 2 and a message.

    Args:
        message: one sentence on stderr and in the launcher's report.
        alike: whether every process of the launch ends in the same way, so that rank 0 prints for all.
    """
    if not alike or os.environ.get("RANK", "0") == "0":
        fail(message)  # before anything else: the launcher may end this process at any moment
    _let_the_first_go_first()
    tell_launcher(message)
    sys.exit(USER_ERROR)


def end_stopped(message: str = "stopped before the end of training; the same command continues") -> NoReturn:
    """End with status 75, as every process of the launch does after it has saved."""
    if os.environ.get("RANK", "0") == "0":
        print(message, file=sys.stderr, flush=True)
    tell_launcher(message)
    _let_the_first_go_first()
    sys.exit(STOPPED)


def end_without_peer(error: RuntimeError, *, rank: str) -> NoReturn:
    """End with status 1, because another process of the launch has ended; its error is the one to look at."""
    time.sleep(PEER_SECONDS)
    message = f"rank {rank}: {_without_peers(error)}"
    fail(message)
    tell_launcher(message)
    sys.exit(PEER_LOST)


def _let_the_first_go_first() -> None:
    """Let one process of a machine end first, so that the launcher's report has one entry and not one for each.

    The others end with status 0 on the launcher's SIGTERM. Where none comes, they end like the first, a little later.
    """
    if os.environ.get("LOCAL_RANK", "0") != "0":
        signal.signal(signal.SIGTERM, lambda *_: os._exit(0))
        time.sleep(FIRST_SECONDS)


def _without_peers(error: RuntimeError) -> str:
    if "connectFullMesh" in str(error):  # how gloo says that the processes never met
        through = os.environ.get("GLOO_SOCKET_IFNAME", "the interface of this machine's own name")
        return (
            f"no connection to the other processes of this launch through {through}: look for a firewall, or choose "
            "another network with GLOO_SOCKET_IFNAME. `framework doctor`, started like this launch, tells which "
            "machines reach each other"
        )
    if "imed out" in str(error):
        return (
            "another process of this launch did not reach a collective in time; a watchdog's message, here or on "
            "another process, names it. --stall-seconds must be longer than any step"
        )
    return "another process of this launch ended; its error is the one to look at"


def peer_is_gone(error: RuntimeError) -> bool:
    """Return whether a collective failed because another process of the launch has ended."""
    lost = isinstance(error, torch.distributed.DistBackendError | torch.distributed.DistNetworkError)
    return lost or "gloo" in str(error) or "Connection closed by peer" in str(error)


LOCAL_RANK = re.compile(r"--local[-_]rank(=\d+)?")
"""The argument that DeepSpeed's launcher, and torch's old one, put first; the rank is in LOCAL_RANK, too."""


def launch(recipe: Recipe, *, arguments: Sequence[str] | None = None) -> None:
    """Train `recipe` as the command line says.

    Exits with status 2 on an error the user can mend, and 75 when a signal stopped the run: the same command continues.

    Args:
        recipe: what is trained, unless flags say otherwise.
        arguments: the command line without the program; default: `sys.argv[1:]`.
    """
    escape_unprintable()
    # Refuse what could not work, before processes meet.
    end_on_signals()
    try:
        adopt_environment()
        end_with_launcher(launcher_to_watch())
        config, adopted = as_launched(_parsed(recipe, sys.argv[1:] if arguments is None else arguments))
        recipe, notes = checked(recipe, config)
    except FrameworkError as error:
        end_with_error(str(error), alike=True)
    # Say what the launcher decided, and what works here but not elsewhere.
    rank = os.environ.get("RANK", "0")
    if adopted and rank == "0":
        print(adopted, file=sys.stderr if config.json else sys.stdout, flush=True)
    for note in notes if rank == "0" else ():
        warn(note)
    # Train; every way to end has its message and its exit status.
    try:
        if config.dry_run:
            _dry_run(recipe, config)
        else:
            _train(recipe, config)
    except FrameworkError as error:
        end_with_error(str(error) if told_processes() == 1 else f"rank {rank}: {error}")
    except RuntimeError as error:
        if not peer_is_gone(error):
            raise
        end_without_peer(error, rank=rank)
    except KeyboardInterrupt:
        end_stopped("interrupted without saving; the same command continues from the last checkpoint")


def _parsed(recipe: Recipe, arguments: Sequence[str]) -> Flags:
    """Parse the flags of a command line, without what launchers add to it."""
    if arguments and LOCAL_RANK.fullmatch(arguments[0]):
        arguments = arguments[1 if "=" in arguments[0] else 2 :]
    try:
        return tyro.cli(
            Flags,
            args=arguments,
            prog=Path(sys.argv[0]).name,
            description=f"{recipe.name}: {recipe.paper}",
            console_outputs=os.environ.get("RANK", "0") == "0",
        )
    except SystemExit as end:
        if end.code:  # rank 0 has printed what is wrong
            tell_launcher("the command line is not understood: see above")
        raise


def checked(recipe: Recipe, config: RunConfig) -> tuple[Recipe, list[str]]:
    """Apply the command line's science to the recipe, and refuse what could not work.

    Nothing is written and no process waits for another.

    Returns:
        The recipe, and warnings for the user.

    Raises:
        FrameworkError: a flag, a `--set` or a recipe that cannot work.
    """
    # Flags, alone and together with the recipe.
    config.check(recipe.metrics)
    recipe = configured(recipe, config)
    config.names(recipe.name)
    check_clipping(recipe)
    describe(recipe)
    # Every segment leaves every process some images.
    for segment in recipe.segments():
        BatchPartition(
            batch_size=segment.batch_size, micro_batches=config.micro_batches, world=told_processes()
        ).slices()
        if augment := getattr(recipe.game, "augment", None):
            augment.check(channels=recipe.data.channels, height=segment.resolution, width=segment.resolution)
    if (
        isinstance(recipe.game, Game)
        and recipe.game.looked_ahead()
        and (config.micro_batches > 1 or config.auto_micro_batch)
    ):
        raise FrameworkError(
            "this game looks ahead, in steps on whole global batches: leave out --micro-batches and "
            "--auto-micro-batch, and give it more processes where memory is short"
        )
    # One forward of each network.
    setting = Setting(
        world=told_processes(),
        micro_batches=config.micro_batches,
        cuts_more=config.auto_micro_batch,
        on_cpu=config.device == "cpu" or not torch.cuda.is_available(),
    )
    return recipe, check_networks(recipe, setting)


def configured(recipe: Recipe, config: Flags) -> Recipe:
    """Return the recipe with the command line's science applied.

    Raises:
        FrameworkError: a `--set` that names no field, or a recipe that cannot work.
    """
    named = {name: getattr(config, name) for name in ("images", "batch_size", "seed")}
    recipe = dataclasses.replace(recipe, **{name: value for name, value in named.items() if value is not None})
    return override.apply(recipe, config.set)


def _dry_run(recipe: Recipe, config: RunConfig) -> None:
    """Print what the recipe is and needs; a growing one also plays one real step of every phase."""
    from framework.train.dry_run import plan, rehearse, show

    if os.environ.get("RANK", "0") == "0":
        on_gpu = config.device != "cpu" and torch.cuda.is_available()
        device = torch.device("cuda" if on_gpu else "cpu")
        report = plan(recipe, config, world=told_processes(), device=device)
        if recipe.growth is not None:
            report["phases"] = rehearse(recipe, config, world=told_processes(), device=device)
        show(report, as_json=config.json)


def _leave_early(folder: RunFolder) -> None:
    """Leave the marker when a signal comes before the first step, and end all child processes but the upload."""
    if os.environ.get("RANK", "0") == "0":
        folder.mark_stopped_early()
    end_family()


def _train(recipe: Recipe, config: RunConfig) -> None:
    """Join the other processes and train."""
    from framework.runtime.session import open_session
    from framework.runtime.watchdog import LONGER
    from framework.train.trainer import run

    data = data_location(recipe, config)
    end_on_signals(leave=lambda: _leave_early(run_folder(recipe, config)))
    with open_session(device=config.device, timeout_seconds=LONGER * config.stall_seconds) as session:
        who = f" rank {session.rank}" if session.world > 1 else ""
        logging.basicConfig(
            level=logging.INFO if session.is_main else logging.WARNING, format=f"%(levelname)s{who}: %(message)s"
        )
        logging.getLogger("mlflow").setLevel(logging.WARNING)
        outcome = run(recipe, config, session=session, data=data)
        if outcome == "stopped":
            session.barrier()  # the journal is closed by now; the first process to end takes its node's others along
    if outcome == "stopped":
        end_stopped()
