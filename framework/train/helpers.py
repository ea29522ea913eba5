"""Loads the networks that a game uses and does not train, whose weights are named by their hash."""

from __future__ import annotations

from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import nn

from framework.data.manifest import file_sha256
from framework.recipe import Helper, Recipe
from framework.train.sources import beside_recipe
from framework.utils.errors import FrameworkError


def load_helpers(recipe: Recipe, *, device: torch.device) -> dict[str, nn.Module]:
    """Return every helper of a recipe by name, on the device, in eval mode and with its weights frozen.

    Raises:
        FrameworkError: a file is missing, has another hash, or does not fit the network.
    """
    return {name: _loaded(helper, name=name).to(device) for name, helper in recipe.helpers.items()}


def _loaded(helper: Helper, *, name: str) -> nn.Module:
    path = _found(helper.weights, name=name)
    if (found := file_sha256(path)) != helper.sha256:
        raise FrameworkError(
            f"helpers.{name}: {path} has the SHA-256 {found}, the recipe names {helper.sha256}: get the file that the "
            "recipe was written for"
        )
    network = helper.network.build()
    try:
        network.load_state_dict(load_file(path))
    except (RuntimeError, SafetensorError) as error:  # what torch and safetensors raise at weights that do not fit
        reason = str(error).strip().splitlines()[-1].strip()
        raise FrameworkError(f"helpers.{name}: {path} does not fit {type(network).__name__}: {reason}") from None
    return network.eval().requires_grad_(False)


def _found(location: str, *, name: str) -> Path:
    """Return the file at a path that is absolute, or relative to the recipe file or to the current folder."""
    places = [beside_recipe(location), Path(location)]
    for path in places:
        if path.is_file():
            return path
    raise FrameworkError(f"helpers.{name}: there are no weights at {' or '.join(str(path) for path in places)}")
