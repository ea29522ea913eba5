"""StyleGAN2's recorded tensors under our names."""

from __future__ import annotations

import re
from collections.abc import Mapping

from torch import Tensor

RULES = {
    r"^(synthesis\.)?b(\d+)\.": r"\1blocks.\2.",
    r"^blocks\.4\.": "head.",  # the discriminator's coarsest block is its head
    r"\.(torgb|fromrgb)\.": lambda match: {"torgb": ".to_image.", "fromrgb": ".from_image."}[match[1]],
    r"\.skip\.": ".shortcut.",
    r"\.affine\.": ".style.",
    r"^head\.fc\.": "head.hidden.",
    r"^head\.out\.": "head.output.",
    r"^mapping\.fc(\d+)\.": r"mapping.layers.\1.",
    r"^mapping\.embed\.": "mapping.embedding.",
    r"^mapping\.w_avg$": "mapping.w_avg.value",
}
"""Pattern to replacement, applied in order to a recorded name."""


def renamed(recorded: Mapping[str, Tensor], prefix: str = "") -> dict[str, Tensor]:
    """The recorded tensors under `prefix` by our names; resampling filters, which we do not store, are left out."""
    ours: dict[str, Tensor] = {}
    for key, tensor in recorded.items():
        if not key.startswith(prefix) or key.endswith("resample_filter"):
            continue
        name = key.removeprefix(prefix)
        for pattern, replacement in RULES.items():
            name = re.sub(pattern, replacement, name)
        assert name not in ours, f"{key} and another tensor both map to {name}"
        ours[name] = tensor.view(1) if name.endswith("noise_strength") else tensor  # theirs is a scalar
    return ours
