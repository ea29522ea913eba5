"""The format of PyTorch-StudioGAN: SNGAN, SAGAN, BigGAN, BigGAN-deep (legacy) and StyleGAN2.

Batch norms use epsilon 1e-4. Override for what shapes do not tell: `rectified_shortcut=True` reproduces the in-place
ReLU of its discriminators.
"""

from __future__ import annotations

from framework.interop.blueprint import Blueprint, Places, State
from framework.interop.formats import bottleneck, resnets, stylegan2
from framework.utils.errors import FrameworkError

PLACES = Places(generator=("state_dict", ""), average=(), discriminator=("state_dict", ""))

DIALECT = resnets.Dialect(
    linear="linear0",
    final_norm="bn4",
    to_image="conv2d5",
    head="linear1",
    embedding="embedding",
    shortcut="conv2d0",
    convolution="conv2d",
    norm="bn",
    attention={
        "theta": "conv1x1_theta",
        "phi": "conv1x1_phi",
        "g": "conv1x1_g",
        "o": "conv1x1_attn",
        "gamma": "sigma",
    },
)
EPSILON = 1e-4


def generator(state: State) -> Blueprint:
    """Read `linear0`, `blocks.N.0` with attention among them, `bn4`, `conv2d5`.

    Raises:
        FrameworkError: it is the generator of DCGAN or LSGAN, which are not supported.
    """
    if "synthesis.b4.const" in state:
        return stylegan2.generator(state)
    if "blocks.0.0.deconv0.weight" in state:
        raise FrameworkError("backbone deep_conv (DCGAN, LSGAN) is not supported")
    family = bottleneck if "blocks.0.0.bn4.bn.running_mean" in state else resnets
    return family.generator(state, DIALECT, _layout(state), batch_norm_eps=EPSILON)


def discriminator(state: State) -> Blueprint:
    """Read `blocks.N.0` with attention among them, `linear1`, `embedding`.

    Raises:
        FrameworkError: it has batch norm, which is not supported.
    """
    if "b4.fc.weight" in state:
        return stylegan2.discriminator(state)
    if "blocks.0.0.bn0.weight" in state:
        raise FrameworkError("discriminators with batch norm (DCGAN, LSGAN, WGAN-GP) are not supported")
    family = bottleneck if "input_conv.bias" in state else resnets
    return family.discriminator(state, DIALECT, _layout(state))


def _layout(state: State) -> resnets.Layout:
    """Return the places of the blocks; attention has a number of its own in their list of blocks."""
    attention = resnets.one_attention(state.numbers(r"blocks\.(\d+)\.0\.sigma$"))
    blocks = [number for number in state.numbers(r"blocks\.(\d+)\.0\.") if number != attention]
    return resnets.Layout(
        blocks=[f"blocks.{number}.0" for number in blocks],
        attention=None if attention is None else f"blocks.{attention}.0",
        attention_after=None if attention is None else sum(number < attention for number in blocks) - 1,
    )
