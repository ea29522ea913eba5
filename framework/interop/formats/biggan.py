"""The format of BigGAN-PyTorch: BigGAN and BigGAN-deep, and SAGAN and SNGAN as its launch scripts make them.

Its spectral norm keeps u alone and iterates once before every use, in evaluation too. So does reading a state: the
network gives the same images as that project's evaluation.
"""

from __future__ import annotations

from framework.interop.blueprint import Blueprint, Places, State
from framework.interop.formats import bottleneck, resnets

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
    """Read `shared`, `linear`, `blocks.N.0`, attention as `blocks.N.1`, `output_layer`."""
    blocks = [f"blocks.{number}.0" for number in state.numbers(r"blocks\.(\d+)\.0\.")]
    attention = resnets.one_attention(state.numbers(r"blocks\.(\d+)\.1\.gamma$"))
    layout = resnets.Layout(
        blocks=blocks,
        attention=None if attention is None else f"blocks.{attention}.1",
        attention_after=attention,
    )
    family = bottleneck if "blocks.0.0.conv4.weight" in state else resnets
    return family.generator(state, DIALECT, layout)


def discriminator(state: State) -> Blueprint:
    """Read `blocks.N.0` (deep: also `.1`, ...), attention behind them, `linear`, `embed`."""
    stages = state.numbers(r"blocks\.(\d+)\.0\.")
    depth = 1 + max(state.numbers(r"blocks\.\d+\.(\d+)\.conv1\."), default=0)
    attended = [n for n in stages if f"blocks.{n}.{depth}.gamma" in state]
    repeats = depth == 1 and len(attended) > 1 and attended == stages[stages.index(attended[0]) :]
    attention = attended[0] if repeats else resnets.one_attention(attended)
    layout = resnets.Layout(
        blocks=[f"blocks.{stage}.{index}" for stage in stages for index in range(depth)],
        attention=None if attention is None else f"blocks.{attention}.{depth}",
        attention_after=None if attention is None else (attention + 1) * depth - 1,
        later_attention=[f"blocks.{n}.1" for n in attended[1:]] if repeats else (),
    )
    family = bottleneck if "input_conv.weight" in state else resnets
    return family.discriminator(state, DIALECT, layout)
