"""pytorch_GAN_zoo's ProGAN and DCGAN under our names."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping

from torch import Tensor, nn

from .weights import Rules


def _convolution(match: re.Match[str]) -> str:
    return f"blocks.{match[1]}.conv{int(match[2]) + 1}."


PROGAN_GENERATOR: Rules = {
    r"\.module\.": ".",
    r"^formatLayer\.weight$": "start.dense.weight",
    r"^formatLayer\.bias$": "start.bias",
    r"^groupScale0\.0\.": "start.conv.",
    r"^scaleLayers\.(\d+)\.([01])\.": _convolution,
    r"^toRGBLayers\.": "to_rgb.",
}
PROGAN_DISCRIMINATOR: Rules = {
    r"\.module\.": ".",
    r"^fromRGBLayers\.": "from_rgb.",
    r"^scaleLayers\.(\d+)\.([01])\.": _convolution,
    r"^groupScaleZero\.0\.": "end.conv.",
    r"^groupScaleZero\.1\.": "end.dense.",
    r"^decisionLayer\.": "end.output.",
}
# Theirs numbers layers by resolution, ours from the input on.
DCGAN_GENERATOR: Rules = {
    r"^formatLayer\.": "layers.0.",
    r"^main\.convTranspose(\d)\.": r"layers.\1.",
    r"^main\.batchNorm(\d)\.": r"norms.\1.",
    r"^main\.outlayer\.": "to_image.",
}
DCGAN_DISCRIMINATOR: Rules = {
    r"^main\.convTranspose3\.": "from_image.",
    r"^main\.convTranspose(\d)\.": lambda match: f"layers.{2 - int(match[1])}.",
    r"^main\.batchNorm(\d)\.": lambda match: f"norms.{2 - int(match[1])}.",
    r"^decisionLayer\.": "output.",
}


def bias_scale(recorded: Mapping[str, Tensor], bias: str) -> float:
    """Theirs is `c (W x + b)`, ours `c W x + b`: the constant c of the layer that owns a bias."""
    weight = recorded[bias.removesuffix("bias") + "weight"]
    return math.sqrt(2 / weight[0].numel())


def translated(recorded: Mapping[str, Tensor], prefix: str, rules: Rules) -> dict[str, Tensor]:
    """The recorded tensors under `prefix` by our names, not yet scaled."""
    ours: dict[str, Tensor] = {}
    for key, tensor in recorded.items():
        name = key.removeprefix(prefix)
        if not key.startswith(prefix) or name.endswith("num_batches_tracked"):
            continue
        for pattern, replacement in rules.items():
            name = re.sub(pattern, replacement, name)
        assert name not in ours, f"{key} and another tensor both map to {name}"
        ours[name] = tensor.unflatten(0, (-1, 4, 4)) if name == "start.bias" else tensor
    return ours


def progan_scales(recorded: Mapping[str, Tensor], prefix: str, rules: Rules) -> dict[str, float]:
    """Ours divided by theirs, for every parameter by our name; gradients have the inverse."""
    params = {key: tensor for key, tensor in recorded.items() if key.startswith(prefix)}
    theirs = dict(zip(translated(params, prefix, rules), params, strict=True))
    return {ours: bias_scale(params, key) if key.endswith("bias") else 1.0 for ours, key in theirs.items()}


def load_progan(network: nn.Module, recorded: Mapping[str, Tensor], prefix: str, rules: Rules) -> None:
    """Fill every parameter of our network, and use every recorded tensor."""
    scales = progan_scales(recorded, prefix, rules)
    network.load_state_dict({name: t * scales[name] for name, t in translated(recorded, prefix, rules).items()})
