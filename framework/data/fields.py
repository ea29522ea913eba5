"""The fields of a sample: what a network is given of it, and in which form.

A sample is named fields, commonly an image and a label. A batch holds every field as the shards have it
(`Batch.fields`), and the field turns that into tensors on the device.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass

import torch
from torch import Tensor

from framework.recipe.sources import Shards


@dataclass(frozen=True)
class Field(ABC):
    """One named part of every sample."""

    name: str
    """The name by which games, terms and networks know it, unique in a recipe."""

    @abstractmethod
    def to_tensor(self, rows: Tensor, *, device: torch.device, dtype: torch.dtype) -> Tensor:
        """Return what networks take, on the device.

        Args:
            rows: this field of n samples as a batch has it, (n, ...), on the host.
            device: where the networks are.
            dtype: floating-point type of the networks.
        """


@dataclass(frozen=True)
class Image(Field):
    """A picture."""

    resolution: int
    """The side in pixels."""
    channels: int = 3
    """1: grey, 3: RGB."""

    def to_tensor(self, rows: Tensor, *, device: torch.device, dtype: torch.dtype) -> Tensor:
        """Return pixels (n, C, H, W) in [-1, 1]; `rows` are (n, C, H, W) uint8."""
        # Loaders hand over pixels as decoders make them (channels last); the device sorts them into planes.
        pixels = rows.to(device, non_blocking=True)
        return pixels.to(dtype, memory_format=torch.contiguous_format).div_(127.5).sub_(1.0)


@dataclass(frozen=True)
class Label(Field):
    """A class."""

    classes: int
    """The number of classes."""

    def to_tensor(self, rows: Tensor, *, device: torch.device, dtype: torch.dtype) -> Tensor:
        """Return classes (n,) int64; `rows` are the same on the host."""
        return rows.to(device, non_blocking=True)


def fields_of(shards: Shards) -> tuple[Field, ...]:
    """Return the fields of a source's samples; by default an image and, where there are classes, a label."""
    image = Image("image", shards.resolution, shards.channels)
    return (image, Label("label", shards.classes)) if shards.classes else (image,)
