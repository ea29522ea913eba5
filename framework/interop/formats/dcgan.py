"""The formats of DCGAN: `dcgan` of pytorch/examples, and the same layers under pytorch_GAN_zoo's names.

The programs of pytorch/examples keep the sequence of layers in `self.main`, so their names begin with `main.`; a
sequence that was saved by itself has the same names without it.
"""

from __future__ import annotations

from framework.interop.blueprint import Blueprint, Places, State
from framework.interop.names import Pair, pair
from framework.interop.tables import batch_norm
from framework.networks import dcgan

PLACES = Places(generator=("", "netG"), average=("avgG",), discriminator=("", "netD"))


def generator(state: State) -> Blueprint:
    """Read a sequence convolution, norm, ReLU, ..., numbered by threes; or `formatLayer` and `main.*`."""
    count, at = _count(state, "formatLayer"), _sequence(state)
    zoo = "formatLayer.weight" in state
    first = "formatLayer" if zoo else f"{at}0"
    last = "main.outlayer" if zoo else f"{at}{3 * count}"
    pairs = [pair(f"{first}.weight", "layers.0.weight"), pair(f"{last}.weight", "to_image.weight")]
    for index in range(count):
        if index:
            convolution = f"main.convTranspose{index}" if zoo else f"{at}{3 * index}"
            pairs.append(pair(f"{convolution}.weight", f"layers.{index}.weight"))
        pairs += batch_norm(f"main.batchNorm{index}" if zoo else f"{at}{3 * index + 1}", f"norms.{index}")
    z_dim = state.shape(f"{first}.weight")[0]
    width, channels = state.shape(f"{last}.weight")[:2]
    options = {"resolution": 4 << count, "channels": channels, "z_dim": z_dim, "width": width}
    return Blueprint(cls=dcgan.Generator, options=options, pairs=pairs)


def discriminator(state: State) -> Blueprint:
    """Read a sequence convolution, leaky ReLU, convolution, norm, leaky ReLU, ...; or `main.*` and `decisionLayer`."""
    zoo = "decisionLayer.weight" in state
    count, at = _count(state, "decisionLayer"), _sequence(state)
    first, last = (f"main.convTranspose{count - 1}", "decisionLayer") if zoo else (f"{at}0", f"{at}{3 * count - 1}")
    pairs: list[Pair] = [pair(f"{first}.weight", "from_image.weight"), pair(f"{last}.weight", "output.weight")]
    for index in range(count - 1):
        # pytorch_GAN_zoo numbers from the coarsest layer; sequences have no norm after the first convolution.
        convolution = f"main.convTranspose{count - 2 - index}" if zoo else f"{at}{3 * index + 2}"
        norm = f"main.batchNorm{count - 2 - index}" if zoo else f"{at}{3 * index + 3}"
        pairs += [pair(f"{convolution}.weight", f"layers.{index}.weight"), *batch_norm(norm, f"norms.{index}")]
    width, channels = state.shape(f"{first}.weight")[:2]
    return Blueprint(
        cls=dcgan.Discriminator,
        options={"resolution": 4 << count, "channels": channels, "width": width},
        pairs=pairs,
    )


def _sequence(state: State) -> str:
    """Return the prefix before the numbers of a sequence's layers."""
    return "main." if "main.0.weight" in state else ""


def _count(state: State, marker: str) -> int:
    """Return the number of convolutions without the last one."""
    if f"{marker}.weight" in state:
        return len(state.numbers(r"main\.convTranspose(\d+)\.weight")) + (marker == "formatLayer")
    return sum(len(tensor.shape) == 4 for tensor in state.values()) - 1
