"""Recorded games of points without training: numbers of which the right answer is known."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from framework.media.recording import (
    Frame,
    Mark,
    Recording,
    Scene,
    gradients_to_text,
    logits_to_text,
    points_to_text,
)

CENTRE, HALF, SIDE = (0.5, -0.25), 2.0, 5
MODES = ((1.5, -0.25), (-0.5, -0.25))
REALS = np.array([[1.5, -0.25], [-0.5, -0.25], [1.5, -0.2]])
CLOCKS = (0, 16, 32, 64, 128)


def scene(*, modes: Sequence[tuple[float, float]] = MODES, undecided: float | None = 0.0) -> Scene:
    """A square around two modes."""
    return Scene(
        centre=CENTRE, half=HALF, reals=points_to_text(REALS, CENTRE, HALF), num_reals=len(REALS), fakes=4, arrows=2,
        side=SIDE, grid=(2, 3), loss="NonSaturating", probability=undecided is not None, undecided=undecided,
        slice="the plane of latents, in steps of equal probability", step_images=16, modes=tuple(modes),
        mode_radius=0.3,
    )  # fmt: skip


def frame(images_seen: int, *, of: Scene | None = None, slope: float = 2.0, is_end: bool = False) -> Frame:
    """Generated points on a line that moves right with the clock; the logit is `slope` (x - centre)."""
    of = of or scene()
    shift = CLOCKS.index(images_seen) / 4 if images_seen in CLOCKS else 0.0
    fakes = np.array([[0.5, -0.25], [0.5 + shift, -0.25], [0.5, 0.75], [99.0, 0.0]])
    across = np.linspace(-HALF, HALF, SIDE)
    surface, low, high = logits_to_text(np.tile(slope * across, (SIDE, 1)))
    grid = np.stack(np.meshgrid([-0.5, 0.5, 1.0 + shift], [-1.0, 0.5]), axis=-1)
    return Frame(
        images_seen=images_seen, fakes=points_to_text(fakes, CENTRE, HALF), surface=surface, low=low, high=high,
        arrows=gradients_to_text([[1.0, 0.0], [0.0, 0.01]]), grid=points_to_text(grid, CENTRE, HALF),
        real_logit=0.5, fake_logit=-0.25 - shift, hits=(int(shift == 1), 0)[: len(of.modes)], is_end=is_end,
    )  # fmt: skip


def recording(
    name: str = "ring", *, clocks: Sequence[int] = CLOCKS, marks: Sequence[Mark] = (), slope: float = 2.0
) -> Recording:
    """A game with losses on a straight line."""
    series = {
        "loss/D": [(images, images / 100) for images in clocks],
        "loss/G": [(images, 2.0) for images in clocks],
        "grad_norm/D": [(images, 10.0**-place) for place, images in enumerate(clocks)],
    }
    frames = [frame(images, slope=slope) for images in clocks]
    return Recording(name=name, recipe="ring", scene=scene(), frames=frames, series=series, marks=marks)
