"""Networks as plain `nn.Module`s: no engine, no optimiser, no recipe.

A generator is called `(z, labels)` and tells the length of its latent in the attribute `z_dim`.
"""

from numbers import Integral

from torch import nn

from framework.errors import FrameworkError


def latent_size(generator: nn.Module) -> int:
    """Length of the latent vector a generator takes.

    Raises:
        FrameworkError: the generator does not tell it.
    """
    size: object = getattr(generator, "z_dim", None)
    if not isinstance(size, Integral) or isinstance(size, bool) or size < 1:
        told = "has no attribute z_dim" if size is None else f"has z_dim={size!r}"
        raise FrameworkError(
            f"{type(generator).__name__} {told}: set self.z_dim in its constructor to the length of its latent "
            "vectors, a whole number from 1"
        )
    return int(size)


def grow(network: nn.Module, *, resolution: int, alpha: float) -> None:
    """Choose the path of a growing network (it has a method `grow`); others have no path to choose.

    Args:
        resolution: side of the images in use.
        alpha: share of the newest layers, 0 to 1.
    """
    if hasattr(network, "grow"):
        network.grow(resolution=resolution, alpha=alpha)  # type: ignore[operator]
