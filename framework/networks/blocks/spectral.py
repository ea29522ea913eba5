"""Spectral normalisation (Miyato et al., arXiv:1802.05957) whose power iteration is a step of the game, not of forward.

A layer uses `W / sigma(W)` with `sigma = u^T W v`; gradients flow through `W` in `sigma`, while `u` and `v` are
constants. `forward` is pure. `power_iteration(network)` advances every layer once, `v <- W^T u`, `u <- W v` (the
paper's Algorithm 1), and the game calls it once per turn of that network. `torch.nn.utils.parametrizations` cannot do
this: it iterates in every training forward, so results would depend on the number of micro-batches, and it updates `u`
before `v`, so neither Algorithm 1 nor any published network can be reproduced with it.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TypeVar

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.nn.utils import parametrize

from framework.networks.blocks.precision import full_precision
from framework.utils.errors import FrameworkError

Layer = TypeVar("Layer", bound=nn.Module)

_TRANSPOSED = (nn.ConvTranspose1d, nn.ConvTranspose2d, nn.ConvTranspose3d)


class SpectralNorm(nn.Module):
    """The parametrization `W -> W / (u^T W v)` of a weight seen as a matrix (out, everything else).

    Buffers `u` (out,) and `v` (in * kernel,) are unit vectors, drawn at random and then warmed up on the given weight.

    Args:
        weight: at least two axes.
        out_dim: the axis of output channels, 1 for transposed convolutions.
        eps: smallest norm that is divided by when `u` and `v` are normalised.
        num_warmup: power iterations made at once.
    """

    u: Tensor
    v: Tensor

    def __init__(self, weight: Tensor, *, out_dim: int = 0, eps: float = 1e-12, num_warmup: int = 15) -> None:
        super().__init__()
        self.out_dim = out_dim
        self.eps = eps
        rows, columns = self._matrix(weight).shape
        self.register_buffer("u", functional.normalize(weight.new_empty(rows).normal_(), dim=0, eps=eps))
        self.register_buffer("v", functional.normalize(weight.new_empty(columns).normal_(), dim=0, eps=eps))
        for _ in range(num_warmup):
            self.iterate(weight)

    def _matrix(self, weight: Tensor) -> Tensor:
        """Return the weight as a matrix (out, everything else)."""
        return weight.movedim(self.out_dim, 0).flatten(1)

    @torch.no_grad()
    def iterate(self, weight: Tensor) -> None:
        """Advance `u` and `v` by one power iteration towards the first singular vectors of `weight`, in place.

        Args:
            weight: (out, ...), of the shape that the parametrization was built with.
        """
        if weight.is_meta:  # only shapes are wanted, as when parameters are counted; iterating would be slow
            return
        matrix = self._matrix(weight)
        with full_precision(weight):  # rounding sigma to bf16 would scale the whole layer
            self.v.copy_(functional.normalize(matrix.mT @ self.u, dim=0, eps=self.eps))
            self.u.copy_(functional.normalize(matrix @ self.v, dim=0, eps=self.eps))

    def sigma(self, weight: Tensor) -> Tensor:
        """Return the estimate `u^T W v` of the largest singular value, a scalar; differentiable in `weight`."""
        # They are copied, so that a power iteration between a forward and its backward does not invalidate the graph.
        u, v = self.u.clone(), self.v.clone()
        with full_precision(weight):
            return torch.dot(u, self._matrix(weight) @ v)

    def forward(self, weight: Tensor) -> Tensor:
        """Return the weight divided by its spectral norm, same shape."""
        return weight / self.sigma(weight)


def spectral_norm(module: Layer, *, name: str = "weight", eps: float = 1e-12, num_warmup: int = 15) -> Layer:
    """Normalise the parameter `name` of a linear, convolution or embedding layer, and return the same module.

    The raw parameter becomes `parametrizations.<name>.original`. Initialise it before this call, or call
    `power_iteration` afterwards: `u` and `v` must belong to the weight.

    Args:
        module: the layer.
        name: the parameter to normalise.
        eps: smallest norm that is divided by when `u` and `v` are normalised.
        num_warmup: power iterations made at once, so that the first forward already has norm near 1.

    Raises:
        FrameworkError: the module has no such parameter, or the parameter has fewer than two axes.
    """
    weight = getattr(module, name, None)
    if not isinstance(weight, Tensor) or weight.dim() < 2:
        found = "no such parameter" if weight is None else f"shape {tuple(getattr(weight, 'shape', ()))}"
        raise FrameworkError(
            f"spectral_norm: {type(module).__name__}.{name} must have two or more axes; it has {found}"
        )
    out_dim = 1 if isinstance(module, _TRANSPOSED) else 0
    norm = SpectralNorm(weight.detach(), out_dim=out_dim, eps=eps, num_warmup=num_warmup)
    parametrize.register_parametrization(module, name, norm)
    return module


def power_iteration(network: nn.Module, *, steps: int = 1) -> None:
    """Advance every spectrally normalised layer of `network` by `steps` power iterations.

    The game calls this once per turn of that network. It is deterministic and does not communicate: processes that hold
    the same weights keep the same vectors. The weights must be whole (with engines that shard them: inside `resident`).
    """
    with torch.no_grad():
        for _, norm, weight in _layers(network):
            for _ in range(steps):
                norm.iterate(weight)


def spectral_norms(network: nn.Module) -> dict[str, Tensor]:
    """Return the current estimate of each layer's largest singular value by parameter name, as detached scalars."""
    with torch.no_grad():
        return {name: norm.sigma(weight) for name, norm, weight in _layers(network)}


def _layers(network: nn.Module) -> Iterator[tuple[str, SpectralNorm, Tensor]]:
    """Yield every normalised parameter's name, its norm and the tensor this norm receives."""
    for path, module in network.named_modules():
        if not parametrize.is_parametrized(module):
            continue
        for name, chain in module.parametrizations.items():
            weight = chain.original
            for step in chain:
                if isinstance(step, SpectralNorm):
                    yield f"{path}.{name}" if path else name, step, weight
                if step is not chain[-1]:
                    weight = step(weight)
