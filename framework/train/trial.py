"""Try one forward of a network before anything is written, on meta tensors or on two samples on the CPU."""

from __future__ import annotations

import inspect
import traceback
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from framework.games.microbatch import ImageDraws
from framework.networks.draw import stochastic_inputs
from framework.networks.observe import Observed, observed
from framework.recipe import Recipe, RecipeError
from framework.runtime.seeding import NEW_RUNS, Draws
from framework.utils.errors import FrameworkError

SAMPLES = 2
"""The number of images in a trial on the CPU."""
META, CPU = torch.device("meta"), torch.device("cpu")


@dataclass(frozen=True, kw_only=True)
class Trial:
    """The result of a forward: what it returned, or its error, and what it was seen to do."""

    output: Any = None
    error: Exception | None = None
    seen: Observed = field(default_factory=Observed)


def shapes_only(recipe: Recipe, side: str) -> nn.Module:
    """Build a player's network on the meta device: shapes without numbers.

    Raises:
        FrameworkError: the network cannot be built.
    """
    try:
        with META:
            return recipe.build_network(side)
    except FrameworkError:
        raise
    except Exception:  # whatever a constructor does with numbers that are not there
        return built(recipe, side).to(META)


def built(recipe: Recipe, side: str) -> nn.Module:
    """Build a player's network on the CPU.

    Raises:
        FrameworkError: the network cannot be built; the message says where it failed.
    """
    try:
        return recipe.build_network(side)
    except FrameworkError:
        raise
    except Exception as error:
        cls = recipe.players[side].network.cls
        kinds = {parameter.kind for parameter in inspect.signature(cls).parameters.values()}
        hint = ""
        if inspect.Parameter.VAR_KEYWORD in kinds:
            hint = "; write out the options behind **: a recipe passes `resolution`, `channels` and `classes` by name"
        raise RecipeError(f"{side}.network cannot be built: {told(error)}{hint}") from error


def draws_for(count: int, *, device: torch.device, seed: int = 0) -> ImageDraws:
    """Return random numbers for a trial forward on `count` images."""
    return ImageDraws(
        draws=Draws(seed=seed, images_seen=0, version=NEW_RUNS),
        purpose="trial",
        batch_size=count,
        rows=slice(0, count),
        device=device,
        dtype=torch.float32,
    )


def tried(network: nn.Module, *inputs: Tensor | None, draw: ImageDraws) -> Trial:
    """Try a training forward of a player on the device of its draws.

    Args:
        network: the player's network.
        inputs: what the game calls it with, such as latents (N, z_dim) and labels (N,).
        draw: the random numbers of the N samples.

    Raises:
        FrameworkError: the network refuses what the game will give it.
    """
    with draw.device, observed(network) as seen:
        trial = attempted(lambda: network(*inputs, **_inputs(network, draw)))
    return replace(trial, seen=seen)


def attempted(run: Callable[[], Any]) -> Trial:
    """Run a user's code, and return what it returns or its error.

    Raises:
        FrameworkError: the code raised it, with a message for the user.
    """
    try:
        return Trial(output=run())
    except FrameworkError:
        raise
    except Exception as error:
        return Trial(error=error)


def _inputs(network: nn.Module, draw: ImageDraws) -> dict[str, Any]:
    inputs = stochastic_inputs(network, draw)
    if not isinstance(inputs, Mapping):
        raise FrameworkError(
            f"{type(network).__name__}.stochastic(draw) returns a {type(inputs).__name__}, it must return a dictionary "
            "of keyword arguments for forward"
        )
    return dict(inputs)


def check_signature(network: nn.Module, arguments: tuple[str, ...], *, sampled: bool) -> None:
    """Refuse a forward that cannot be called as games call it.

    Args:
        network: the player's network.
        arguments: what the game calls it with, in words: ("latents", "labels").
        sampled: whether samplers call it, too, with nothing drawn.

    Raises:
        FrameworkError: the forward takes other arguments.
    """
    name, signature = type(network).__name__, inspect.signature(network.forward)
    drawn = attempted(lambda: _inputs(network, draws_for(SAMPLES, device=META)))
    inputs = drawn.output or {}  # where drawing fails, the trial on the CPU will show whether it always does
    unknown = set() if _takes_any(signature) else set(inputs) - set(signature.parameters)
    if unknown:
        names = ", ".join(sorted(unknown))
        raise FrameworkError(f"{name}.stochastic(draw) gives what {name}.forward does not take: {names}")
    try:
        signature.bind(*arguments, **({} if sampled else inputs))
    except TypeError as error:
        taken = ", ".join(signature.parameters)
        missing = ", labels being None without classes," if "labels" in arguments else ""
        raise FrameworkError(
            f"{name}.forward({taken}) cannot be called with {' and '.join(arguments)}: {error}; it must take "
            f"({', '.join(arguments)}){missing} and any other argument needs a default"
        ) from None


def _takes_any(signature: inspect.Signature) -> bool:
    return any(parameter.kind is inspect.Parameter.VAR_KEYWORD for parameter in signature.parameters.values())


def told(error: Exception) -> str:
    """Return an error in one line, with the nearest line of the user's own code."""
    text = str(error).strip().partition("\n")[0]
    frames = traceback.extract_tb(error.__traceback__)
    own = [frame for frame in frames if not _is_library(frame.filename)]
    place = f" ({Path(own[-1].filename).name}:{own[-1].lineno})" if own else ""
    return f"{type(error).__name__}: {text}{place}"


def needs_others(error: Exception) -> bool:
    """Return whether a forward failed because it communicates with other processes, which have not started yet."""
    return any("/torch/distributed/" in frame.filename for frame in traceback.extract_tb(error.__traceback__))


def _is_library(file: str) -> bool:
    return "site-packages" in file or file.startswith("<") or Path(__file__).parents[1] in Path(file).parents
