"""Perceptual path length (arXiv:1812.04948) and LPIPS diversity, both distances between pairs of images."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from framework.evaluation.errors import MissingError
from framework.evaluation.extractors.base import lent, plain_float32
from framework.evaluation.extractors.lpips import Lpips
from framework.evaluation.generated import GeneratedSamples
from framework.evaluation.images import SEVERAL_SIZES, SampleSet, even_batch_ranges
from framework.evaluation.metrics.base import Measured, Metric, MetricInputs
from framework.runtime.collectives import summed
from framework.runtime.session import Session
from framework.sampling.sampler import LatentSampler
from framework.utils.progress import show_progress

PATH_SIDE = 64
SMALLEST_SIDE = 64


class PathLength(Metric):
    """The perceptual path length."""

    name = "ppl"
    definition = (
        "perceptual path length in z, linear, LPIPS at 64x64 of uint8 images, percentiles 1 to 99 "
        "(arXiv:1812.04948, as torch-fidelity)"
    )
    compares_with_real = False
    default_count = 10_000
    model = "lpips"
    options_from = ("path_epsilon",)

    def measure(self, inputs: MetricInputs) -> dict[str, Measured]:
        """Return the mean over pairs, with its standard deviation."""
        assert inputs.lpips is not None
        session, shown_as, epsilon = inputs.session, inputs.shown_as, inputs.settings.path_epsilon
        with lent(inputs.lpips, session.device):
            mean, std = path_length(
                inputs.samples, inputs.lpips, count=inputs.count, epsilon=epsilon, session=session, shown_as=shown_as
            )
        return {self.name: Measured(value=mean, details={"std": std})}


class LPIPSDiversity(Metric):
    """The mean LPIPS of pairs of images."""

    name = "lpips"
    definition = "mean LPIPS of pairs of images, of one class where there are classes (arXiv:1801.03924)"
    compares_with_real = False
    default_count = 2_000
    model = "lpips"

    def measure(self, inputs: MetricInputs) -> dict[str, Measured]:
        """Return the mean over pairs, with its standard deviation."""
        assert inputs.lpips is not None
        session, shown_as = inputs.session, inputs.shown_as
        with lent(inputs.lpips, session.device):
            mean, std = diversity(inputs.samples, inputs.lpips, count=inputs.count, session=session, shown_as=shown_as)
        return {self.name: Measured(value=mean, details={"std": std})}


def path_length(
    images: SampleSet, lpips: Lpips, *, count: int, epsilon: float, session: Session, shown_as: str = ""
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
    if not isinstance(images, GeneratedSamples) or not isinstance(images.sampler, LatentSampler):
        raise MissingError("a path length walks through a generator's latents: give a checkpoint")
    network, sampler = images.network, images.sampler
    distances = torch.zeros(count, dtype=torch.float64)
    shown = show_progress(shown_as, total=count, enabled=bool(shown_as) and session.is_main, unit="pairs")
    with shown as advance:
        for positions, mine in even_batch_ranges(count, rank=session.rank, world=session.world):
            start, towards = (sampler.latents(network, positions, purpose=f"evaluation/path/{end}") for end in (0, 1))
            labels = sampler.labels(positions)
            z = torch.cat([start, torch.lerp(start, towards, epsilon)])
            both = sampler.pictures(network, z, None if labels is None else labels.repeat(2))
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
    images: SampleSet, lpips: Lpips, *, count: int, session: Session, shown_as: str = ""
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
    if isinstance(images, GeneratedSamples) and isinstance(images.sampler, LatentSampler):
        images = replace(images, sampler=replace(images.sampler, pairs=True))
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
