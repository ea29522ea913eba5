"""Perceptual path length (arXiv:1812.04948) and LPIPS diversity, both distances between pairs of images."""

from __future__ import annotations

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from framework.evaluation.errors import MissingError
from framework.evaluation.extractors.base import plain_float32
from framework.evaluation.extractors.lpips import Lpips
from framework.evaluation.generated import GeneratedImages
from framework.evaluation.images import SEVERAL_SIZES, ImageSet, even_batch_ranges
from framework.runtime.collectives import summed
from framework.runtime.session import Session
from framework.utils.progress import show_progress

PATH_SIDE = 64
SMALLEST_SIDE = 64


def path_length(
    images: ImageSet, lpips: Lpips, *, count: int, epsilon: float, session: Session, shown_as: str = ""
) -> tuple[float, float]:
    """Return mean and standard deviation of LPIPS(G(z), G(z + (z' - z) epsilon)) / epsilon^2 over pairs of latents.

    It is computed as torch-fidelity does: linear in z, uint8 images, resized to 64 pixels, the outer percentiles left
    out. A collective.

    Args:
        count: number of pairs.
        epsilon: length of the step, as a share of the way from z to z'.
        shown_as: title under which rank 0 shows how far it is; empty shows nothing.

    Raises:
        MissingError: the images do not come from a generator.
    """
    if not isinstance(images, GeneratedImages):
        raise MissingError("a path length walks through a generator's latents: give a checkpoint")
    distances = torch.zeros(count, dtype=torch.float64)
    shown = show_progress(shown_as, total=count, enabled=bool(shown_as) and session.is_main, unit="pairs")
    with shown as advance:
        for positions, mine in even_batch_ranges(count, rank=session.rank, world=session.world):
            start, towards = (images.latents(positions, purpose=f"evaluation/path/{end}") for end in (0, 1))
            labels = images.labels(positions)
            both = images.draw(
                torch.cat([start, torch.lerp(start, towards, epsilon)]), None if labels is None else labels.repeat(2)
            )
            if mine:
                a, b = _resized(both, session, side=PATH_SIDE).chunk(2)
                distances[positions.start : positions.stop] = (_distances(lpips, a, b) / epsilon**2).double().cpu()
            advance(len(positions) * session.world)

    # The percentiles are those of torch-fidelity, to the interpolation.
    kept = summed(session, distances).numpy()
    low, high = np.percentile(kept, 1, method="lower"), np.percentile(kept, 99, method="higher")
    kept = kept[(low <= kept) & (kept <= high)]
    return float(kept.mean()), float(kept.std())


def diversity(
    images: ImageSet, lpips: Lpips, *, count: int, session: Session, shown_as: str = ""
) -> tuple[float, float]:
    """Return mean and standard deviation of LPIPS over the pairs (0, 1), (2, 3), ... of the first `count` images.

    A conditional generator draws both images of a pair from one class. A mean of 0 says that all images are the same.
    Images smaller than 64 pixels are enlarged to 64. A collective.

    Args:
        shown_as: title under which rank 0 shows how far it is; empty shows nothing.

    Raises:
        MissingError: there are fewer than two images, or images of several sizes.
    """
    if count < 2:
        raise MissingError("diversity needs at least 2 images")
    if images.describe().get("resolution") == SEVERAL_SIZES:
        raise MissingError("LPIPS compares images of one size, and these have several: bring them to one first")
    count -= count % 2
    if isinstance(images, GeneratedImages):
        images = images.in_pairs(count)
    distances = torch.zeros(count // 2, dtype=torch.float64)
    with show_progress(shown_as, total=count, enabled=bool(shown_as) and session.is_main) as advance:
        for part in images.parts(count=count, rank=session.rank, world=session.world):
            pixels = part.images
            pixels = _resized(pixels, session, side=SMALLEST_SIDE if min(pixels.shape[-2:]) < SMALLEST_SIDE else None)
            found = _distances(lpips, pixels[0::2], pixels[1::2])
            distances[part.start // 2 : part.start // 2 + len(found)] = found.double().cpu()
            advance(len(pixels) * session.world)
    distances = summed(session, distances)
    return float(distances.mean()), float(distances.std(correction=0))


def _distances(lpips: Lpips, a: Tensor, b: Tensor) -> Tensor:
    with torch.no_grad(), plain_float32(a.device):
        return lpips(a, b)


def _resized(images: Tensor, session: Session, *, side: int | None) -> Tensor:
    """Return float images (N, C, side, side) on the session's device, averaged down or enlarged bilinearly.

    With `side=None` they keep the size of the uint8 images (N, C, H, W).
    """
    images = images.to(session.device).float()
    if side is None:
        return images
    if min(images.shape[-2:]) > side:
        return F.interpolate(images, (side, side), mode="area")
    return F.interpolate(images, (side, side), mode="bilinear", align_corners=False)
