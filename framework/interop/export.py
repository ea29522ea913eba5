"""Export of a StyleGAN2 of ours as the state dict of NVlabs' programs, bit for bit the one that was read."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from framework.interop.formats import stylegan2 as table
from framework.interop.names import written
from framework.networks import stylegan2
from framework.utils.errors import FrameworkError

EXPORTS = ("nvlabs-stylegan2",)
"""Projects in whose format networks can be written."""


@torch.no_grad()
def export(kind: str, network: nn.Module) -> dict[str, Tensor]:
    """Return the state dict of `network` in the format of the project `kind`, constants included.

    Args:
        kind: the project; one of `EXPORTS`.
        network: a StyleGAN2 generator or discriminator of ours.

    Returns:
        Names to tensors on the CPU, in the shapes of that project.

    Raises:
        FrameworkError: the kind cannot be written, or has no place for the network or one of its tensors.
    """
    if kind not in EXPORTS:
        raise FrameworkError(f"kind={kind!r} cannot be written; possible: {', '.join(EXPORTS)}")
    state = {name: tensor.detach().cpu() for name, tensor in network.state_dict().items()}
    if isinstance(network, stylegan2.Generator):
        pairs = table.generator_pairs(state, sorted(map(int, network.synthesis.blocks)))
    elif isinstance(network, stylegan2.Discriminator):
        pairs = table.discriminator_pairs(state, [4, *sorted(map(int, network.blocks))])
    else:
        raise FrameworkError(f"{kind} is StyleGAN2; the network is {type(network).__module__}.{type(network).__name__}")
    taps = next(buffer for name, buffer in network.named_buffers() if name.endswith("filter"))
    constants = {pair.theirs: taps.detach().cpu().clone() for pair in pairs if pair.theirs.endswith(table.FILTER)}
    return written(state, pairs) | constants
