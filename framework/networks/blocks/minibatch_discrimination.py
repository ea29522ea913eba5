"""Minibatch discrimination: features that say how close a sample is to the others of its batch (arXiv:1606.03498).

Samples are compared within the global micro-batch, so the result does not depend on how many processes share it: in
training, their projections are first gathered from all processes by a differentiable sum. Real and generated samples
are judged in batches of their own, as in the paper.
"""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor, nn

from framework.networks.blocks.precision import at_least_fp32, full_precision
from framework.networks.sizes import check_choice, check_sizes
from framework.runtime.collectives import gathered_over_processes

Closeness = Literal["paper", "program"]
"""The form of minibatch discrimination; see `MinibatchDiscrimination`."""


class MinibatchDiscrimination(nn.Module):
    """A layer that appends to features (N, A) how close each sample is to the others, (N, A + B).

    A sample's features are projected to B rows of C numbers by a learned tensor T (A, B, C). Its closeness in row b is
    `o_b = sum over samples j of exp(-|M_b - M_jb|_1)` (section 3.2). The comparison is of all pairs: it takes N times
    the global micro-batch times B times C numbers.

    The authors' program differs in three points, `form="program"`: T is `theta exp(log_weight_scale) / |theta|`, with
    the norm over the A features; the sum leaves out the sample itself; a learned bias is added. There, scales and
    biases also get values from a first batch before training. That is left out here, because a network's initial
    weights must not depend on data: the scales are 1, the biases -1.

    Args:
        in_features: A.
        num_kernels: B, 100 in the authors' program.
        kernel_dim: C, 5 in the authors' program.
        form: `paper` or `program`.

    Raises:
        FrameworkError: an argument is out of range, or `form` is unknown.
    """

    def __init__(
        self, in_features: int, *, num_kernels: int = 100, kernel_dim: int = 5, form: Closeness = "paper"
    ) -> None:
        super().__init__()
        check_sizes(classes=0, in_features=in_features, num_kernels=num_kernels, kernel_dim=kernel_dim)
        check_choice("form", form, Closeness)
        self.in_features, self.num_kernels, self.kernel_dim = in_features, num_kernels, kernel_dim
        self.form: Closeness = form
        self.theta = nn.Parameter(torch.empty(in_features, num_kernels, kernel_dim))
        nn.init.normal_(self.theta, std=0.05)
        program = form == "program"
        self.log_weight_scale = nn.Parameter(torch.zeros(num_kernels, kernel_dim)) if program else None
        self.bias = nn.Parameter(torch.full((num_kernels,), -1.0)) if program else None

    @property
    def out_features(self) -> int:
        """The length of the result, A + B."""
        return self.in_features + self.num_kernels

    def extra_repr(self) -> str:
        """Return the options for `print`."""
        return f"{self.in_features}, num_kernels={self.num_kernels}, kernel_dim={self.kernel_dim}, form={self.form!r}"

    def forward(self, features: Tensor) -> Tensor:
        """Append the closeness to features (N, A), giving (N, A + B); a collective in training."""
        with full_precision(features):
            x = at_least_fp32(features)
            rows = torch.einsum("na,abc->nbc", x, self._projection())
            everyone, mine = gathered_over_processes(rows) if self.training else (rows, slice(0, len(rows)))
            distances = (rows[:, None] - everyone[None]).abs().sum(3)  # (N, M, B)
            closeness = torch.exp(-distances)
            if self.form == "program":
                own = torch.eye(len(everyone), dtype=torch.bool, device=x.device)[mine]
                closeness = closeness.masked_fill(own[:, :, None], 0.0)
            summed = closeness.sum(1)
            if self.bias is not None:
                summed = summed + self.bias
        return torch.cat([features, summed.to(features.dtype)], dim=1)

    def _projection(self) -> Tensor:
        """Return T (A, B, C)."""
        if self.log_weight_scale is None:
            return self.theta
        return self.theta * (self.log_weight_scale.exp() / torch.linalg.vector_norm(self.theta, dim=0))
