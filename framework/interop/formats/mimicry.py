"""The format of mimicry: SNGAN, SAGAN, cGAN-PD, and the ResNets it calls DCGAN and WGAN-GP.

Its generators upsample bilinearly. Overrides for what shapes do not tell: `rectified_shortcut=True` reproduces the
in-place ReLU of its discriminators; `pooling="mean"` is WGAN-GP's; `resolution=48` distinguishes WGAN-GP's 48 px
discriminator from the one for 64 px; `attention_at`.
"""

from __future__ import annotations

from typing import Any

from framework.interop.blueprint import Blueprint, Places, State
from framework.interop.formats import resnets
from framework.interop.tables import weight_shape
from framework.utils.errors import FrameworkError

PLACES = Places(generator=("model_state_dict", "", "net"), average=(), discriminator=("model_state_dict", "", "net"))

ATTENTION = {name: name for name in ("theta", "phi", "g", "o", "gamma")}


def generator(state: State) -> Blueprint:
    """Read `l1`, `block2`, `block3`, ..., then norm and convolution with the next number."""
    numbers = _blocks(state, first=2)
    last = numbers[-1] + 1
    dialect = _dialect(final_norm=f"b{last}", to_image=f"c{last}")
    widths = [weight_shape(state, f"block{number}.c2")[0] for number in numbers]
    after = _attention_after(state, widths)
    return resnets.generator(state, dialect, _layout(numbers, after), upsampling="bilinear")


def discriminator(state: State) -> Blueprint:
    """Read `block1`, `block2`, ..., then a linear layer with the next number, and `l_y` for labels.

    Raises:
        FrameworkError: there is no last layer that this version knows.
    """
    numbers = _blocks(state, first=1)
    head = next((name for name in ("l5", "l6", "l7") if f"{name}.bias" in state), None)
    if head is None:
        raise FrameworkError("the state has no last layer l5, l6 or l7")
    widths = [weight_shape(state, f"block{number}.c2")[0] for number in numbers]
    options: dict[str, Any] = {}
    if len(numbers) == 5:
        # The blocks for 48 and 64 px have the same shapes; their last layers are numbered differently.
        resolution = state.given.get("resolution", 48 if head == "l5" else 64)
        options = {"resolution": 48} if resolution == 48 else {"resolution": 64, "coarsest": 2}
    after = _attention_after(state, widths)
    return resnets.discriminator(state, _dialect(head=head), _layout(numbers, after), **options)


def _dialect(*, final_norm: str = "", to_image: str = "", head: str = "") -> resnets.Dialect:
    return resnets.Dialect(
        linear="l1",
        final_norm=final_norm,
        to_image=to_image,
        head=head,
        embedding="l_y",
        shortcut="c_sc",
        convolution="c",
        norm="b",
        attention=ATTENTION,
    )


def _layout(numbers: list[int], after: int | None) -> resnets.Layout:
    return resnets.Layout(
        blocks=[f"block{number}" for number in numbers],
        attention=None if after is None else "attn_block",
        attention_after=after,
    )


def _blocks(state: State, *, first: int) -> list[int]:
    numbers = state.numbers(r"block(\d+)\.")
    if not numbers or numbers != list(range(first, first + len(numbers))):
        raise FrameworkError(f"blocks {numbers} are not numbered on from {first}")
    return numbers


def _attention_after(state: State, widths: list[int]) -> int | None:
    """Return the only block with the channels of the attention; of several, the second, as in the 32 px networks."""
    if "attn_block.gamma" not in state:
        return None
    channels = weight_shape(state, "attn_block.theta")[1]
    candidates = [index for index, width in enumerate(widths) if width == channels]
    if not candidates:
        raise FrameworkError(f"attention over {channels} channels fits after no block: they have {widths}")
    return candidates[0] if len(candidates) == 1 else 1 if 1 in candidates else candidates[0]
