"""Path length regularisation (StyleGAN2, arXiv:1912.04958, section 3.2, equation 4).

A step of given length in w should change the image by about the same amount at any w and in any direction. The
Jacobian's transpose is applied to noise images (equation 5), so one backward pass measures one length per image.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from framework.networks.blocks.precision import full_precision
from framework.networks.draw import stochastic_inputs
from framework.objectives.penalties import Penalty, norms
from framework.objectives.terms import TermInputs
from framework.runtime.collectives import sum_over_processes
from framework.utils.errors import FrameworkError

MEMORY = "path_length_mean"
"""Name of the running mean of the lengths in a player's memory."""


def path_lengths(images: Tensor, ws: Tensor, noise: Tensor) -> Tensor:
    """Return the rate at which each image changes with its styles, (N,), differentiable in the generator's parameters.

    It is the root of the mean over layers of `|d(sum(image * noise / sqrt(H W))) / d(w of that layer)|^2`.

    Args:
        images: (N, C, H, W), made from `ws`; or other samples (N, C, ...), where H W stands for the number of positions
            after C, 1 if there are none.
        ws: styles (N, num_ws, w_dim), or (N, w_dim) of a generator with one style.
        noise: standard normal, of the images' shape; the division makes lengths independent of the resolution.
    """
    scaled = noise / math.sqrt(math.prod(images.shape[2:]))
    (gradient,) = torch.autograd.grad((images * scaled).sum(), ws, create_graph=True)
    return norms(gradient) / math.sqrt(math.prod(ws.shape[1:-1]))


def path_length_penalty(lengths: Tensor, target: Tensor) -> Tensor:
    """Return `(lengths - target)^2`, (N,): equation 4, in which the target is the constant a.

    Args:
        lengths: (N,), from `path_lengths`.
        target: the running mean of lengths, a scalar.
    """
    return (lengths - target).square()


@dataclass(frozen=True, kw_only=True)
class PathLength(Penalty):
    """The penalty `weight * E[(length - a)^2]`, where a is the running mean of lengths over all processes.

    The generator must have the modules `mapping(z, labels) -> ws` and `synthesis(ws) -> images`. The gradient flows
    through the newest mean's share in a, as in the published programs.

    Raises:
        FrameworkError: `decay` lies outside (0, 1], or `shrink` is below 1.
    """

    weight: float = 2.0
    every: int = 4
    decay: float = 0.01
    """Share of the newest mean in the running one."""
    shrink: int = 2
    """One image in `shrink` of the global batch is measured, because the double backward pass takes much memory."""

    needs_second_derivative: ClassVar[bool] = True
    players: ClassVar[tuple[str, ...]] = ("generator",)

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 0.0 < self.decay <= 1.0:
            raise FrameworkError(f"PathLength: decay={self.decay} must lie in (0, 1]")
        if self.shrink < 1:
            raise FrameworkError(f"PathLength: shrink={self.shrink} must be at least 1")

    def value(self, inputs: TermInputs) -> Tensor:
        """Return this process's part of the mean squared distance of lengths from their running mean, a scalar.

        The call moves the running mean and is a collective. It measures the images whose row in the global batch is a
        multiple of `shrink`, so the same ones on any number of processes.

        Raises:
            FrameworkError: the turn has no latents, or the generator has no `mapping` or `synthesis`.
        """
        # The images of this process that are measured.
        z, rows = self._given(inputs.z, "latents"), self._given(inputs.rows, "row numbers")
        (chosen,) = (rows % self.shrink == 0).nonzero(as_tuple=True)
        counted = len(chosen) > 0
        if not counted:  # every process must take part in the sum below and in its backward: measure one, count none
            chosen = torch.zeros(1, dtype=torch.int64)
        # Their lengths, and the running mean over all processes.
        with full_precision(z):
            lengths = self._lengths(inputs, z, chosen.to(z.device)) * float(counted)
            total = torch.stack([lengths.sum(), lengths.new_tensor(len(chosen) * float(counted))])
            total = sum_over_processes(total)
            old = inputs.memory.get(MEMORY, torch.zeros((), dtype=torch.float64)).to(lengths)
            target = torch.lerp(old, total[0] / total[1], self.decay)
            inputs.memory[MEMORY] = target.detach().to("cpu", torch.float64)
            squared = path_length_penalty(lengths, target) * float(counted)
        # The caller multiplies by this process's share of all images; of these, one in `shrink` was measured.
        return squared.sum() * (self.shrink / len(rows))

    def _lengths(self, inputs: TermInputs, z: Tensor, chosen: Tensor) -> Tensor:
        """Return the lengths (K,) of the images in the rows `chosen` (K,) int64."""
        network = inputs.network
        self._require_parts(network)
        given: dict[str, Any] = {k: _rows(v, chosen) for k, v in stochastic_inputs(network, inputs.draw).items()}
        mix = {"mix": given.pop("mix")} if "mix" in given else {}
        labels = None if inputs.fake_labels is None else inputs.fake_labels[chosen]
        ws = network.mapping(z[chosen], labels, **mix)  # type: ignore[operator]
        images = network.synthesis(ws, **given)  # type: ignore[operator]
        noise = inputs.draw.normal("path_length/noise", *images.shape[1:])[chosen]
        return path_lengths(images, ws, noise.to(images.dtype))

    @staticmethod
    def _require_parts(network: nn.Module) -> None:
        """Raise a FrameworkError if the generator has no modules to differentiate."""
        for part in ("mapping", "synthesis"):
            if not isinstance(getattr(network, part, None), nn.Module):
                raise FrameworkError(f"PathLength: {type(network).__name__} has no module {part!r} to differentiate")


def _rows(value: Any, chosen: Tensor) -> Any:
    """Return the rows `chosen` of a forward's argument if it is a tensor or a tuple of tensors, or else all of it."""
    if isinstance(value, Tensor):
        return value[chosen]
    return tuple(_rows(v, chosen) for v in value) if isinstance(value, tuple) else value
