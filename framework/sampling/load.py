"""Loads a generator from a checkpoint; only its own tensors are read, and no code is imported for it."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from framework.checkpoint import Checkpoint, resolve
from framework.networks import grow, latent_size
from framework.networks.blocks.spectral import power_iteration
from framework.networks.latents import check_latents
from framework.recipe.description import network_from
from framework.recipe.growth import segment_at, segments_from
from framework.sampling.drawn import Drawn
from framework.sampling.generate import POWER_ITERATIONS, generate
from framework.utils.bounded import decoding, is_count
from framework.utils.budget import Budget
from framework.utils.errors import FrameworkError
from framework.utils.flags import local_path

_MOST_CLASSES = 1 << 20


@dataclass(frozen=True, kw_only=True)
class LoadedGenerator:
    """A generator in eval mode, and its origin."""

    network: nn.Module
    recipe: Mapping[str, Any]
    """The resolved recipe, as `framework.recipe.description` wrote it."""
    images_seen: int
    """The clock of the checkpoint, images seen."""
    path: Path
    """Folder of the checkpoint."""
    downloaded: bool = False
    """Whether `path` was a copy from MLflow, which is gone again."""
    options: Mapping[str, Any] = field(default_factory=dict)
    """Further arguments of every forward; see `style_options`."""
    drawn: Drawn = field(default_factory=Drawn)
    """What it draws, and from what."""
    progress: bool = False
    """Whether drawing shows on standard error how far it is."""

    def draw(self, z: Tensor, labels: Tensor | None = None) -> Tensor:
        """Draw uint8 images (N, C, H, W) on the CPU from latents (N, z_dim) and labels (N,) int64 or None."""
        return generate(self.network, z, labels, options=self.options, progress=self.progress)

    @property
    def classes(self) -> int:
        """Number of classes; 0 for an unconditional generator."""
        return int(self.recipe["data"]["classes"])

    @property
    def class_names(self) -> list[str]:
        """Names of the classes; empty when the data had none."""
        return list(self.recipe.get("class_names", []))

    @property
    def z_dim(self) -> int:
        """Length of the latent vector."""
        return latent_size(self.network)


def load_generator(
    source: str | Path,
    *,
    device: str | torch.device = "cpu",
    averaged: bool = True,
    classes: Mapping[str, type[nn.Module]] | None = None,
    tracking_uri: str | None = None,
) -> LoadedGenerator:
    """Load the generator of a checkpoint folder, a run folder (its newest valid checkpoint) or an MLflow URI.

    Args:
        device: where the network goes, such as `cuda:1`.
        averaged: load the moving average of the weights (EMA) instead of the last ones.
        classes: network classes from outside this package that may be built; see `network_from`.
        tracking_uri: MLflow store in which `runs:/...` and `models:/...` are looked up.

    Raises:
        CheckpointError: there is no valid checkpoint.
        FrameworkError: the place or the device does not exist, the network class is unknown, or the recipe in the
            checkpoint does not fit its tensors.
    """
    # A downloaded checkpoint lives in this folder until its tensors have been read.
    with tempfile.TemporaryDirectory(prefix="checkpoint-") as folder:
        path = _local(source, tracking_uri, into=Path(folder))
        checkpoint = resolve(path, ema_only=averaged)
        recipe = checkpoint.document("recipe.json")
        with decoding(checkpoint.path / "recipe.json"):
            budget = Budget.of(checkpoint.shape(key) for key in checkpoint.keys("generator/"))
            network = network_from(recipe["generator"]["network"], budget=budget, classes=classes)
            if segments := segments_from(recipe):  # a growing generator draws at the resolution it had reached
                segment = segment_at(segments, checkpoint.images_seen)
                grow(network, resolution=segment.resolution, alpha=segment.alpha(checkpoint.images_seen))
            _check_classes(recipe)
            drawn = Drawn.from_json(recipe.get("samples"))
            if drawn.latents:  # otherwise a width that the file claims would be drawn, whatever it is
                check_latents(drawn.latents, z_dim=latent_size(network))
        kinds = ("ema", "ema_buffer") if averaged else ("weight", "buffer")
        _fill(network, checkpoint, *kinds)

    _to_device(network, device)
    network.eval().requires_grad_(False)
    if averaged:
        power_iteration(network, steps=POWER_ITERATIONS)
    return LoadedGenerator(
        network=network,
        recipe=recipe,
        images_seen=checkpoint.images_seen,
        path=checkpoint.path,
        downloaded=path.is_relative_to(folder),
        drawn=drawn,
    )


def _check_classes(recipe: Mapping[str, Any]) -> None:
    names = recipe.get("class_names", [])
    if not is_count(recipe["data"]["classes"], most=_MOST_CLASSES) or not isinstance(names, list):
        raise FrameworkError("data.classes must be a count, and class_names a list")


def _to_device(network: nn.Module, device: str | torch.device) -> None:
    try:
        network.to(device)
    except (RuntimeError, AssertionError) as error:  # torch's ways of saying that there is no such device
        raise FrameworkError(f"--device {device}: {str(error).splitlines()[0]}") from None


@torch.no_grad()
def _fill(network: nn.Module, checkpoint: Checkpoint, weights: str, buffers: str) -> None:
    for name, parameter in network.named_parameters():
        _copy(parameter, checkpoint, f"generator/{weights}/{name}")
    for name, buffer in network.named_buffers():
        _copy(buffer, checkpoint, f"generator/{buffers}/{name}")


def _copy(target: Tensor, checkpoint: Checkpoint, key: str) -> None:
    stored = checkpoint.shape(key)
    if stored != tuple(target.shape):  # copying would stretch a tensor of one element over all of them
        raise FrameworkError(
            f"{checkpoint.path} holds {key} with shape {stored}, its recipe says {tuple(target.shape)}"
        )
    target.copy_(checkpoint.full(key))


def _local(source: str | Path, tracking_uri: str | None, *, into: Path) -> Path:
    text = str(source)
    if text.startswith(("runs:/", "models:/")):
        from framework.tracking.artifacts import download_checkpoint  # imports mlflow

        return download_checkpoint(text, into=into, tracking_uri=tracking_uri)
    path = local_path(text)
    if not path.exists():
        raise FrameworkError(f"{text}: no such checkpoint or run folder")
    return path
