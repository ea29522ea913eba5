"""The resize filters of extractors. A filter is part of a metric's protocol: it alone moves FID by points."""

from __future__ import annotations

import torch
from torch import Tensor

TF1_BILINEAR = "bilinear, TensorFlow 1 (source = target * in / out, no antialias)"
"""The filter of FID's reference (arXiv:1706.08500): pixel grids share their top left corner, not their centre."""


def tf1_bilinear(images: Tensor, *, side: int) -> Tensor:
    """Resize float images (N, C, H, W) to (N, C, side, side) as TensorFlow 1 did.

    Output pixel i lies at input coordinate i * H / side; beyond the last input pixel the edge is repeated. Enlarging by
    a large factor therefore shifts the image towards the top left, which is wrong and part of every published FID.
    """
    for axis in (3, 2):
        size = images.shape[axis]
        place = torch.arange(side, device=images.device, dtype=torch.float32) * torch.tensor(size / side)
        below = place.long()
        above = (below + 1).clamp_max(size - 1)
        share = (place - below).to(images.dtype).view(-1, *([1] * (3 - axis)))
        low, high = images.index_select(axis, below), images.index_select(axis, above)
        images = low + (high - low) * share
    return images
