"""BigGAN-PyTorch: BigGAN and BigGAN-deep, and SAGAN and SNGAN as its launch scripts make them.

Its spectral norm keeps u alone and iterates once before every use, in evaluation too. So does reading a state: what
comes out of the network is what that project's evaluation would give.
"""

from __future__ import annotations

from framework.interop.blueprint import Blueprint, Places, State
from framework.interop.kinds import bottleneck, resnets

PLACES = Places(generator=("", "state_dict"), average=("",), discriminator=("", "state_dict"))

DIALECT = resnets.Dialect(
    linear="linear",
    final_norm="output_layer.0",
    to_image="output_layer.2",
    head="linear",
    embedding="embed",
    shortcut="conv_sc",
    convolution="conv",
    norm="bn",
    attention={name: name for name in ("theta", "phi", "g", "o", "gamma")},
    embeds=True,
)


def generator(state: State) -> Blueprint:
    """`shared`, `linear`, `blocks.N.0`, attention as `blocks.N.1`, `output_layer`."""
    blocks = [f"blocks.{number}.0" for number in state.numbers(r"blocks\.(\d+)\.0\.")]
    attention = resnets.one_attention(state.numbers(r"blocks\.(\d+)\.1\.gamma$"))
    places = resnets.Places(
        blocks=blocks,
        attention=None if attention is None else f"blocks.{attention}.1",
        attention_after=attention,
    )
    family = bottleneck if "blocks.0.0.conv4.weight" in state else resnets
    return family.generator(state, DIALECT, places)


def discriminator(state: State) -> Blueprint:
    """`blocks.N.0` (deep: also `.1`, ...), attention behind them, `linear`, `embed`."""
    stages = state.numbers(r"blocks\.(\d+)\.0\.")
    depth = 1 + max(state.numbers(r"blocks\.\d+\.(\d+)\.conv1\."), default=0)
    attention = resnets.one_attention([n for n in stages if f"blocks.{n}.{depth}.gamma" in state])
    places = resnets.Places(
        blocks=[f"blocks.{stage}.{index}" for stage in stages for index in range(depth)],
        attention=None if attention is None else f"blocks.{attention}.{depth}",
        attention_after=None if attention is None else (attention + 1) * depth - 1,
    )
    family = bottleneck if "input_conv.weight" in state else resnets
    return family.discriminator(state, DIALECT, places)
