"""What a recipe file calls: `launch(RECIPE)` under `accelerate launch`, `torchrun` or plain `python`."""

from __future__ import annotations

import dataclasses
import logging
import os
import sys
from collections.abc import Sequence
from pathlib import Path

import tyro

from framework import override
from framework.errors import FrameworkError
from framework.recipe import Recipe
from framework.train.config import RunConfig
from framework.train.console import fail

USER_ERROR = 2


def launch(recipe: Recipe, *, arguments: Sequence[str] | None = None) -> None:
    """Train `recipe` as the command line says; exits with status 2 on an error the user can mend.

    Args:
        arguments: the command line without the program; default: `sys.argv[1:]`.
    """
    main_process = os.environ.get("RANK", "0") == "0"
    config = tyro.cli(
        RunConfig,
        args=arguments,
        prog=Path(sys.argv[0]).name,
        description=f"{recipe.name}: {recipe.paper}",
        console_outputs=main_process,
    )
    started = False
    try:
        recipe = configured(recipe, config)
        if config.dry_run:
            if main_process:
                _dry_run(recipe, config)
            return
        _check_networks(recipe)
        started = True
        _train(recipe, config)
    except FrameworkError as error:
        if main_process or started:
            fail(str(error) if main_process else f"rank {os.environ['RANK']}: {error}")
        sys.exit(USER_ERROR)


def configured(recipe: Recipe, config: RunConfig) -> Recipe:
    """The recipe with the command line's science applied.

    Raises:
        FrameworkError: a `--set` that names no field, or a recipe that cannot work.
    """
    named = {name: getattr(config, name) for name in ("images", "batch_size", "seed")}
    recipe = dataclasses.replace(recipe, **{name: value for name, value in named.items() if value is not None})
    return override.apply(recipe, config.set)


def data_location(recipe: Recipe, config: RunConfig) -> str:
    """Where the shards are: `--data`, or the recipe's location, relative to the recipe file when it exists there."""
    if config.data is not None:
        return config.data
    beside = Path(sys.argv[0]).resolve().parent / recipe.data.location
    return str(beside) if beside.exists() else recipe.data.location


def _dry_run(recipe: Recipe, config: RunConfig) -> None:
    import torch

    from framework.train.preflight import plan, show

    on_gpu = config.device != "cpu" and torch.cuda.is_available()
    world = int(os.environ.get("WORLD_SIZE", "1"))
    show(plan(recipe, config, world=world, device=torch.device("cuda" if on_gpu else "cpu")), as_json=config.json)


def _check_networks(recipe: Recipe) -> None:
    """Refuse what the networks refuse before any process waits for another."""
    import torch

    with torch.device("meta"):
        for side in ("generator", "discriminator"):
            recipe.build_network(side)


def _train(recipe: Recipe, config: RunConfig) -> None:
    from framework.runtime.session import open_session
    from framework.train.run import run

    with open_session(device=config.device) as session:
        logging.basicConfig(
            level=logging.INFO if session.is_main else logging.WARNING,
            format=f"%(levelname)s rank {session.rank}: %(message)s"
            if session.world > 1
            else "%(levelname)s: %(message)s",
        )
        logging.getLogger("mlflow").setLevel(logging.WARNING)
        run(recipe, config, session=session, data=data_location(recipe, config))
