"""LPIPS with VGG16 (Zhang et al. 2018, arXiv:1801.03924): a perceptual distance of two images.

Features after five blocks of VGG16 (arXiv:1409.1556) are normalised per pixel, their squared differences weighted by
learned heads, averaged over pixels and summed. The weights go by torch-fidelity's names (`net.slice1.0.weight`, ...,
`lin0.model.1.weight`). None ship with the package and no published file carries its checksum in its name, so they come
from `--lpips-weights` only.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from framework.evaluation.errors import EvaluationError, MissingError
from framework.evaluation.extractors.base import tensors_sha256
from framework.evaluation.weights import load_weights, shared
from framework.runtime.session import Session

# Convolutions of each block by their number in VGG16; a 2x2 maximum stands before every block but the first.
_BLOCKS = ((0, 2), (5, 7), (10, 12, 14), (17, 19, 21), (24, 26, 28))
_SHIFT, _SCALE = (-0.030, -0.088, -0.188), (0.458, 0.448, 0.450)
_EPSILON = 1e-10


@dataclass(frozen=True, kw_only=True)
class Perceptual:
    """The network of LPIPS, and what identifies its weights in a protocol."""

    network: Lpips
    weights_sha256: str
    tensors_sha256: str


class Lpips(nn.Module):
    """Maps two batches of images (N, 3, H, W) in [0, 255] to their distances (N,).

    Args:
        state: tensors by torch-fidelity's names.

    Raises:
        EvaluationError: a tensor is missing.
    """

    def __init__(self, state: Mapping[str, Tensor]) -> None:
        super().__init__()
        missing = [name for name in tensor_names() if name not in state]
        if missing:
            raise EvaluationError(f"these are not LPIPS weights for VGG16: {missing[0]} is missing")
        for name in tensor_names():
            self.register_buffer(name.replace(".", "/"), state[name].float().clone())

    def forward(self, a: Tensor, b: Tensor) -> Tensor:
        """Return the distances (N,) of images `a` and `b`, both (N, 3, H, W) in [0, 255]."""
        total = torch.zeros(len(a), device=a.device)
        for index, (x, y) in enumerate(zip(self._features(a), self._features(b), strict=True)):
            squares = (_normalized(x) - _normalized(y)).square()
            total += F.conv2d(squares, self._tensor(f"lin{index}.model.1.weight")).mean((1, 2, 3))
        return total

    def _features(self, images: Tensor) -> list[Tensor]:
        shift, scale = (torch.tensor(v, device=images.device).view(1, 3, 1, 1) for v in (_SHIFT, _SCALE))
        x = (images.float() / 127.5 - 1.0 - shift) / scale
        found = []
        for block, convolutions in enumerate(_BLOCKS):
            x = F.max_pool2d(x, 2) if block else x
            for number in convolutions:
                key = f"net.slice{block + 1}.{number}"
                x = F.relu(F.conv2d(x, self._tensor(f"{key}.weight"), self._tensor(f"{key}.bias"), padding=1))
            found.append(x)
        return found

    def _tensor(self, name: str) -> Tensor:
        return self.get_buffer(name.replace(".", "/"))


def tensor_names() -> list[str]:
    """Return the names of all tensors LPIPS needs."""
    heads = [f"lin{index}.model.1.weight" for index in range(len(_BLOCKS))]
    convolutions = [f"net.slice{block + 1}.{n}" for block, numbers in enumerate(_BLOCKS) for n in numbers]
    return heads + [f"{key}.{part}" for key in convolutions for part in ("weight", "bias")]


def open_lpips(path: Path | None, *, session: Session) -> Perceptual:
    """Open LPIPS on the host, the same on every rank. A collective.

    Raises:
        MissingError: no file was given.
        FrameworkError: the file cannot be used.
    """
    if path is None:
        raise MissingError("LPIPS needs the weights of VGG16 and its heads: pass their file with --lpips-weights")
    weights = shared(lambda: load_weights(path, containing="lin0.model.1.weight"), session=session)
    used = {name: weights.state[name] for name in tensor_names() if name in weights.state}
    return Perceptual(network=Lpips(used).eval(), weights_sha256=weights.sha256, tensors_sha256=tensors_sha256(used))


def _normalized(x: Tensor) -> Tensor:
    return x / (x.square().sum(1, keepdim=True).sqrt() + _EPSILON)
