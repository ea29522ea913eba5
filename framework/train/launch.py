"""What a recipe file calls: `launch(RECIPE)` under `accelerate launch`, `torchrun`, `srun`, `mpirun` or `python`."""

from __future__ import annotations

import dataclasses
import logging
import os
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import torch
import tyro

from framework import override
from framework.describe import describe
from framework.errors import FrameworkError
from framework.games.share import BatchShare
from framework.recipe import Recipe
from framework.runtime.session import adopt_environment, told_processes
from framework.train.config import RunConfig
from framework.train.console import fail, warn
from framework.train.launcher import check_launcher
from framework.train.network_check import Setting, check_networks

USER_ERROR, PEER_LOST = 2, 1
STOPPED = 75  # EX_TEMPFAIL: the same command continues


def launch(recipe: Recipe, *, arguments: Sequence[str] | None = None) -> None:
    """Train `recipe` as the command line says; exits with status 2 on an error the user can mend.

    Args:
        arguments: the command line without the program; default: `sys.argv[1:]`.
    """
    adopt_environment()
    rank = os.environ.get("RANK", "0")
    config = tyro.cli(
        RunConfig,
        args=arguments,
        prog=Path(sys.argv[0]).name,
        description=f"{recipe.name}: {recipe.paper}",
        console_outputs=rank == "0",
    )
    try:
        recipe, notes = checked(recipe, config)
    except FrameworkError as error:  # the same on every process: one of them says it
        if rank == "0":
            fail(str(error))
        sys.exit(USER_ERROR)
    for note in notes if rank == "0" else ():
        warn(note)
    try:
        if config.dry_run:
            _dry_run(recipe, config)
        else:
            _train(recipe, config)
    except FrameworkError as error:
        fail(str(error) if told_processes() == 1 else f"rank {rank}: {error}")
        sys.exit(USER_ERROR)
    except RuntimeError as error:
        if not _peer_is_gone(error):
            raise
        time.sleep(3)  # let the process that failed be the first whose end the launcher sees
        fail(f"rank {rank}: {_without_peers(error)}")
        sys.exit(PEER_LOST)


def checked(recipe: Recipe, config: RunConfig) -> tuple[Recipe, list[str]]:
    """The recipe with the command line's science applied, refused if it could not work, and warnings for the user.

    Nothing is written and no process waits for another.

    Raises:
        FrameworkError: a flag, a `--set` or a recipe that cannot work.
    """
    config.check()
    recipe = configured(recipe, config)
    check_launcher(recipe, config)
    describe(recipe)
    for segment in recipe.segments():
        BatchShare(batch_size=segment.batch_size, micro_batches=config.micro_batches, world=told_processes()).micros()
        if augment := getattr(recipe.game, "augment", None):
            augment.check(channels=recipe.data.channels, height=segment.resolution, width=segment.resolution)
    setting = Setting(
        world=told_processes(),
        micro_batches=config.micro_batches,
        cuts_more=config.auto_micro_batch,
        on_cpu=config.device == "cpu" or not torch.cuda.is_available(),
    )
    return recipe, check_networks(recipe, setting)


def configured(recipe: Recipe, config: RunConfig) -> Recipe:
    """The recipe with the command line's science applied.

    Raises:
        FrameworkError: a `--set` that names no field, or a recipe that cannot work.
    """
    named = {name: getattr(config, name) for name in ("images", "batch_size", "seed")}
    recipe = dataclasses.replace(recipe, **{name: value for name, value in named.items() if value is not None})
    return override.apply(recipe, config.set)


def data_location(recipe: Recipe, config: RunConfig) -> str:
    """Where the shards are: `--data`, or the recipe's location, relative to the recipe file or to the current folder.

    Raises:
        FrameworkError: the recipe's own location is at neither place.
    """
    if config.data is not None:
        return config.data
    location, folder = recipe.data.location, Path(sys.argv[0]).resolve().parent
    beside = folder / location
    if beside.exists() or "://" in location or any(mark in location for mark in ("{", "*", "pipe:")):
        return str(beside) if beside.exists() else location
    if not Path(location).exists():
        raise FrameworkError(
            f"the data of {recipe.name} is neither at {beside} nor at {Path(location).resolve()}: pack it with "
            "`framework pack` (recipes/data/README.md has the commands), or say where it is with --data"
        )
    return location


def _dry_run(recipe: Recipe, config: RunConfig) -> None:
    from framework.train.preflight import plan, show
    from framework.train.rehearsal import rehearse

    if os.environ.get("RANK", "0") == "0":
        on_gpu = config.device != "cpu" and torch.cuda.is_available()
        device = torch.device("cuda" if on_gpu else "cpu")
        report = plan(recipe, config, world=told_processes(), device=device)
        if recipe.growth is not None:
            report["phases"] = rehearse(recipe, config, world=told_processes(), device=device)
        show(report, as_json=config.json)


def _train(recipe: Recipe, config: RunConfig) -> None:
    from framework.runtime.session import open_session
    from framework.runtime.watchdog import LONGER
    from framework.train.run import run

    data = data_location(recipe, config)
    with open_session(device=config.device, timeout_seconds=LONGER * config.stall_seconds) as session:
        who = f" rank {session.rank}" if session.world > 1 else ""
        logging.basicConfig(
            level=logging.INFO if session.is_main else logging.WARNING, format=f"%(levelname)s{who}: %(message)s"
        )
        logging.getLogger("mlflow").setLevel(logging.WARNING)
        outcome = run(recipe, config, session=session, data=data)
        if outcome == "stopped" and _among_several_launchers():
            session.barrier()  # the journal is closed: the first process to end takes its node's others with it
    if outcome == "stopped" and _among_several_launchers():
        # Only one of the launchers may have been told to stop. The others would take status 0 for the end of the run,
        # and torchrun would then wait five minutes for the one that is gone.
        sys.exit(STOPPED)


def _among_several_launchers() -> bool:
    return int(os.environ.get("GROUP_WORLD_SIZE", "1")) > 1


def _without_peers(error: RuntimeError) -> str:
    if "connectFullMesh" in str(error):  # how gloo says that the processes never met
        through = os.environ.get("GLOO_SOCKET_IFNAME", "the interface of this machine's own name")
        return (
            f"no connection to the other processes of this launch (tried through {through}): a firewall, or the wrong "
            "network; GLOO_SOCKET_IFNAME chooses another. `framework doctor` started like this launch says who reaches "
            "whom"
        )
    if "imed out" in str(error):
        return (
            "another process of this launch did not come to a collective in time: the sentence of a watchdog, here or "
            "on another process, names it. --stall-seconds must be longer than any step"
        )
    return "another process of this launch ended; its error is the one to look at"


def _peer_is_gone(error: RuntimeError) -> bool:
    """Whether a collective failed because another process of the launch has ended."""
    lost = isinstance(error, torch.distributed.DistBackendError | torch.distributed.DistNetworkError)
    return lost or "gloo" in str(error) or "Connection closed by peer" in str(error)
