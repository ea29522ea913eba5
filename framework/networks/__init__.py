"""Networks as plain `nn.Module`s: no engine, no optimiser, no recipe.

A generator is called `(z, labels)`, and its attribute `z_dim` holds the length of its latent.
"""

from numbers import Integral

from torch import nn

from framework.utils.errors import FrameworkError


def latent_size(generator: nn.Module) -> int:
    """Return the length of the latent vectors that a generator takes, its attribute `z_dim`.

    Raises:
        FrameworkError: the attribute is missing, or is not a whole number of at least 1.
    """
    size: object = getattr(generator, "z_dim", None)
    if not isinstance(size, Integral) or isinstance(size, bool) or size < 1:
        told = "has no attribute z_dim" if size is None else f"has z_dim={size!r}"
        raise FrameworkError(
            f"{type(generator).__name__} {told}: set self.z_dim in its constructor to the length of its latent "
            "vectors, a whole number of at least 1"
        )
    return int(size)


def grow(network: nn.Module, *, resolution: int, alpha: float) -> None:
    """Choose the path of a growing network, one that has a method `grow`; do nothing with others.

    Args:
        network: a generator or discriminator.
        resolution: side of the images in use.
        alpha: share of the newest layers, from 0 to 1.
    """
    if hasattr(network, "grow"):
        network.grow(resolution=resolution, alpha=alpha)  # type: ignore[operator]
