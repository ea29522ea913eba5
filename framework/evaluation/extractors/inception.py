"""Inception-v3 as FID defines it: the network of 2015-12-05 with pool3 (2048 features), arXiv:1512.00567, 1706.08500.

FID is a function of one particular set of weights and of three deviations from the paper's network: averages at image
borders count real pixels only, the last block takes a maximum where the others average, and images arrive through
TensorFlow 1's bilinear filter. The weights go by the names of torch-fidelity (Obukhov et al. 2020), which the tests
compare with; shapes come from the weights themselves. Inference only, so batch norm is folded into the convolutions.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from framework.evaluation.errors import EvaluationError
from framework.evaluation.extractors.resize import tf1_bilinear

SIDE = 299
POOL3 = 2048
EPSILON = 1e-3

# A block is its parallel branches; a branch is a chain of convolutions by name, `avg` and `max` pool 3x3 in place, and
# `/2` halves the resolution (no padding). A pair of names in parentheses runs side by side on the same input.
Step = str | tuple[str, str]
_DOUBLE = ("branch3x3dbl_1", "branch3x3dbl_2", "branch3x3dbl_3")
_A: tuple[tuple[Step, ...], ...] = (("branch1x1",), ("branch5x5_1", "branch5x5_2"), _DOUBLE, ("avg", "branch_pool"))
_B: tuple[tuple[Step, ...], ...] = (
    ("branch3x3/2",),
    ("branch3x3dbl_1", "branch3x3dbl_2", "branch3x3dbl_3/2"),
    ("max/2",),
)
_C: tuple[tuple[Step, ...], ...] = (
    ("branch1x1",),
    ("branch7x7_1", "branch7x7_2", "branch7x7_3"),
    tuple(f"branch7x7dbl_{i}" for i in range(1, 6)),
    ("avg", "branch_pool"),
)
_D: tuple[tuple[Step, ...], ...] = (
    ("branch3x3_1", "branch3x3_2/2"),
    ("branch7x7x3_1", "branch7x7x3_2", "branch7x7x3_3", "branch7x7x3_4/2"),
    ("max/2",),
)


def _e(pool: str) -> tuple[tuple[Step, ...], ...]:
    return (
        ("branch1x1",),
        ("branch3x3_1", ("branch3x3_2a", "branch3x3_2b")),
        ("branch3x3dbl_1", "branch3x3dbl_2", ("branch3x3dbl_3a", "branch3x3dbl_3b")),
        (pool, "branch_pool"),
    )


_BLOCKS = {
    **dict.fromkeys(("Mixed_5b", "Mixed_5c", "Mixed_5d"), _A),
    "Mixed_6a": _B,
    **dict.fromkeys(("Mixed_6b", "Mixed_6c", "Mixed_6d", "Mixed_6e"), _C),
    "Mixed_7a": _D,
    "Mixed_7b": _e("avg"),
    "Mixed_7c": _e("max"),
}
# Convolutions of the stem: (name, stride, padding); None is a 3x3 maximum at stride 2.
_STEM = (
    ("Conv2d_1a_3x3", 2, 0),
    ("Conv2d_2a_3x3", 1, 0),
    ("Conv2d_2b_3x3", 1, 1),
    None,
    ("Conv2d_3b_1x1", 1, 0),
    ("Conv2d_4a_3x3", 1, 0),
    None,
)
_PARTS = ("conv.weight", "bn.weight", "bn.bias", "bn.running_mean", "bn.running_var")


def _is_convolution(step: str) -> bool:
    return step.partition("/")[0] not in ("avg", "max")


def convolution_names() -> list[str]:
    """Return the names of the 94 convolutions up to pool3."""
    names = [entry[0] for entry in _STEM if entry]
    for block, branches in _BLOCKS.items():
        for branch in branches:
            for step in branch:
                steps = (step,) if isinstance(step, str) else step
                names += [f"{block}.{each.partition('/')[0]}" for each in steps if _is_convolution(each)]
    return names


def pool3_names() -> list[str]:
    """Return the names of the tensors that the 2048 features depend on."""
    return [f"{name}.{part}" for name in convolution_names() for part in _PARTS]


class InceptionV3(nn.Module):
    """Maps uint8 images (N, 3, H, W) of any size to features (N, 2048), and logits (N, 1008) if weights have them.

    Args:
        state: tensors by torch-fidelity's names; `fc.weight` may be absent, then there are no logits.

    Raises:
        EvaluationError: a tensor is missing, so these are other weights.
    """

    def __init__(self, state: Mapping[str, Tensor]) -> None:
        super().__init__()
        missing = [name for name in pool3_names() if name not in state]
        if missing:
            raise EvaluationError(
                f"these are not the Inception weights of FID: {len(missing)} of {len(pool3_names())} tensors are "
                f"missing, the first is {missing[0]}"
            )
        for name in convolution_names():
            weight, gamma, beta, mean, variance = (state[f"{name}.{part}"].double() for part in _PARTS)
            scale = gamma / torch.sqrt(variance + EPSILON)
            key = name.replace(".", "/")
            folded = (weight * scale.view(-1, 1, 1, 1)).float()
            self.register_buffer(f"{key}/weight", folded.contiguous(memory_format=torch.channels_last))
            self.register_buffer(f"{key}/bias", (beta - mean * scale).float())
        # The bias of the classifier is left out, as the Inception Score's reference did (arXiv:1606.03498).
        self.register_buffer("fc", state["fc.weight"].float() if "fc.weight" in state else None)

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor | None]:
        """Return features (N, 2048) and logits (N, 1008) float32 of uint8 images (N, 3, H, W) of any size.

        Logits are None without their weights.
        """
        x = tf1_bilinear(images.float(), side=SIDE).sub_(128.0).div_(128.0)
        x = x.contiguous(memory_format=torch.channels_last)
        for entry in _STEM:
            x = F.max_pool2d(x, 3, stride=2) if entry is None else self._convolve(x, entry[0], entry[1], entry[2])
        for name, branches in _BLOCKS.items():
            x = torch.cat([self._follow(x, name, branch) for branch in branches], dim=1)
        features = x.mean(dim=(2, 3))
        classifier = self._buffers["fc"]
        return features, None if classifier is None else features @ classifier.T

    def _follow(self, x: Tensor, block: str, branch: tuple[Step, ...]) -> Tensor:
        for step in branch:
            if isinstance(step, tuple):
                x = torch.cat([self._step(x, block, each) for each in step], dim=1)
            else:
                x = self._step(x, block, step)
        return x

    def _step(self, x: Tensor, block: str, step: str) -> Tensor:
        name, _, halves = step.partition("/")
        if name == "avg":
            return F.avg_pool2d(x, 3, stride=1, padding=1, count_include_pad=False)
        if name == "max":
            return F.max_pool2d(x, 3, stride=2) if halves else F.max_pool2d(x, 3, stride=1, padding=1)
        return self._convolve(x, f"{block}/{name}", 2 if halves else 1, 0 if halves else None)

    def _convolve(self, x: Tensor, key: str, stride: int, padding: int | None) -> Tensor:
        weight = self.get_buffer(f"{key}/weight")
        height, width = weight.shape[2:]
        pad = (height // 2, width // 2) if padding is None else (padding, padding)
        return F.relu_(F.conv2d(x, weight, self.get_buffer(f"{key}/bias"), stride=stride, padding=pad))
