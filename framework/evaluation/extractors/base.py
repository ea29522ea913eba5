"""An extractor: a network, what identifies it in a protocol, and how it is run without disturbing anything."""

from __future__ import annotations

import contextlib
import hashlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn

INCEPTION = "inception-v3-compat"
"""FID's own network; the name is torch-fidelity's."""


@dataclass(frozen=True, kw_only=True)
class Identity:
    """The facts about an extractor that a value depends on: network, weights, and the filter before it."""

    name: str
    layer: str
    """Name of the layer whose outputs are the features."""
    input: str
    """Colours and resize filter with which images reach the network."""
    weights_sha256: str
    """SHA-256 of the weights' file."""
    tensors_sha256: str
    """SHA-256 of the tensors that the features depend on, whatever file they came in."""


@dataclass(frozen=True, kw_only=True)
class Extractor:
    """A network that turns images into features, and its identity.

    Attributes:
        network: maps uint8 images (N, 3, H, W) to float32 features (N, dim), and logits (N, classes) or None.
        dim: number of features.
    """

    identity: Identity
    network: nn.Module
    dim: int

    @property
    def is_inception(self) -> bool:
        """Whether its Frechet distance may be called FID."""
        return self.identity.name == INCEPTION

    @torch.no_grad()
    def __call__(self, images: Tensor) -> tuple[Tensor, Tensor | None]:
        """Return features (N, dim) float32 and logits (N, classes) or None of uint8 images (N, 3, H, W).

        The images must be on the network's device.
        """
        with plain_float32(images.device):
            return self.network(images)


@contextlib.contextmanager
def lent(network: nn.Module, device: torch.device) -> Iterator[None]:
    """Move the network to a device for the block, and back to the host: training needs the device's memory."""
    network.to(device)
    try:
        yield
    finally:
        network.to("cpu")


@contextlib.contextmanager
def plain_float32(device: torch.device) -> Iterator[None]:
    """Switch off autocast, and TF32 in convolutions, which would change the numbers with the hardware."""
    cudnn = torch.backends.cudnn
    exact = cudnn.flags(enabled=cudnn.enabled, benchmark=False, deterministic=True, allow_tf32=False)
    with torch.autocast(device.type, enabled=False), exact:
        yield


def tensors_sha256(tensors: Mapping[str, Tensor]) -> str:
    """Return the SHA-256 over names, shapes and float32 values of tensors of any shape, in the order of the names."""
    digest = hashlib.sha256()
    for name in sorted(tensors):
        values = tensors[name].detach().float().contiguous().cpu()
        digest.update(f"{name} {tuple(values.shape)}\n".encode())
        digest.update(values.numpy().tobytes())
    return digest.hexdigest()
