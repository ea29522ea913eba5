"""Networks as plain `nn.Module`s: no engine, no optimiser, no recipe.

A generator is called `(z, labels)` and tells the length of its latent in the attribute `z_dim`.
"""

from torch import nn


def latent_size(generator: nn.Module) -> int:
    """Length of the latent vector a generator takes."""
    return int(generator.z_dim)  # type: ignore[arg-type]  # nn.Module types every attribute as a tensor or module


def grow(network: nn.Module, *, resolution: int, alpha: float) -> None:
    """Choose the path of a growing network (it has a method `grow`); others have no path to choose.

    Args:
        resolution: side of the images in use.
        alpha: share of the newest layers, 0 to 1.
    """
    if hasattr(network, "grow"):
        network.grow(resolution=resolution, alpha=alpha)  # type: ignore[operator]
