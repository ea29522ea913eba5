"""Networks as plain `nn.Module`s: no engine, no optimiser, no recipe.

A generator is called `(z, labels)` and tells the length of its latent in the attribute `z_dim`.
"""

from torch import nn


def latent_size(generator: nn.Module) -> int:
    """Length of the latent vector a generator takes."""
    return int(generator.z_dim)  # type: ignore[arg-type]  # nn.Module types every attribute as a tensor or module
