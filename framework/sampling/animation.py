"""Draws walks through latent space, and writes them as animations."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from framework.sampling.latents import latents, slerp
from framework.sampling.load import LoadedGenerator
from framework.utils.errors import FrameworkError

FRAMES_PER_SECOND = 20


def interpolation(
    loaded: LoadedGenerator, *, classes: Sequence[int], steps: int, truncation: float | None, seed: int, closed: bool
) -> Tensor:
    """Draw spherical walks between latents, one per class, or a single one without classes.

    Args:
        classes: class numbers, one walk each.
        steps: number of images per walk.
        truncation: largest latent entry; None for no truncation.
        seed: seed of the latents.
        closed: return to the first latent after two others, so that an animation can loop.

    Returns:
        uint8 images (max(1, len(classes)), steps, C, H, W) on the CPU.

    Raises:
        FrameworkError: fewer than 2 steps, or too small a truncation.
    """
    if steps < 2:
        raise FrameworkError(f"an interpolation needs at least 2 images, got {steps}")
    walks = []
    for row in range(max(1, len(classes))):
        corners = latents(
            seed=seed, count=3 if closed else 2, z_dim=loaded.z_dim, truncation=truncation, purpose=f"walk/{row}"
        )
        stops = torch.cat([corners, corners[:1]]) if closed else corners
        z = torch.stack([_along(stops, i / (steps if closed else steps - 1)) for i in range(steps)])
        labels = torch.full((steps,), classes[row]) if classes else None
        walks.append(loaded.draw(z, labels))
    return torch.stack(walks)


def _along(stops: Tensor, share: float) -> Tensor:
    place = share * (len(stops) - 1)
    first = min(int(place), len(stops) - 2)
    return slerp(stops[first], stops[first + 1], place - first)


def save_animation(path: Path, frames: Sequence[np.ndarray]) -> Path:
    """Write frames (H, W, C) uint8 as `.webp`, or as `.mp4` (H.264) where PyAV is installed; return the path.

    Raises:
        FrameworkError: the path has another suffix, or PyAV is not installed.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.suffix == ".mp4":
        _save_mp4(path, frames)
    elif path.suffix == ".webp":
        pictures = [Image.fromarray(_rgb(frame)) for frame in frames]
        pictures[0].save(
            path, save_all=True, append_images=pictures[1:], duration=1000 // FRAMES_PER_SECOND, loop=0, lossless=True
        )
    else:
        raise FrameworkError(f"{path}: an animation is written as .mp4 or .webp")
    return path


def _save_mp4(path: Path, frames: Sequence[np.ndarray]) -> None:
    try:
        import av
    except ImportError:
        raise FrameworkError(f"{path}: MP4 needs PyAV (pip install av), or choose .webp") from None
    height, width = (frames[0].shape[0] // 2 * 2, frames[0].shape[1] // 2 * 2)  # H.264 wants even sides
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=FRAMES_PER_SECOND, options={"crf": "18"})
        stream.width, stream.height, stream.pix_fmt = width, height, "yuv420p"
        for pixels in frames:
            frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(_rgb(pixels)[:height, :width]), format="rgb24")
            container.mux(stream.encode(frame))
        container.mux(stream.encode())


def _rgb(pixels: np.ndarray) -> np.ndarray:
    return np.repeat(pixels, 3, axis=2) if pixels.shape[2] == 1 else pixels
