"""`framework sample` of a network that translates: rows of inputs, outputs and targets, of packed pairs."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from framework.media import PictureGrid
from framework.media.grids import Pixels, readable_scale
from framework.sampling.load import LoadedGenerator
from framework.sampling.sampler import BATCH_SIZE
from framework.sampling.stored import StoredSamples
from framework.sampling.translation import TranslationSampler
from framework.utils.errors import FrameworkError
from framework.utils.progress import show_progress

ROWS = {"input": "source", "output": "generated", "target": "target"}
"""What a row shows, and its name among the tensors of a `TranslationSampler`."""


@dataclass(frozen=True, kw_only=True)
class Translations:
    """Translated pairs in their order."""

    tensors: dict[str, Pixels]
    """`source`, `generated` and `target`, each uint8 (N, C, H, W)."""

    def first(self, count: int) -> Translations:
        """Return the first `count` pairs, or all where there are fewer."""
        return Translations(tensors={name: pictures[:count] for name, pictures in self.tensors.items()})

    def grid(self, *, columns: int) -> PictureGrid:
        """Return rows of inputs, outputs and targets, below them those of the next `columns` pairs, and so on."""
        shown = {row: _coloured(self.tensors[name]) for row, name in ROWS.items()}
        starts = range(0, len(shown["input"]), columns)
        rows = [_filled(one[start : start + columns], columns) for start in starts for one in shown.values()]
        pictures = np.concatenate(rows)
        scale = readable_scale(pictures.shape[-1])
        return PictureGrid(pictures, columns=columns, row_names=list(shown) * len(starts), scale=scale)

    def save_arrays(self, path: Path) -> None:
        """Write `images`, what was made, `sources` and `targets`, each uint8 (N, H, W, C), as an .npz file."""
        last = {name: pictures.transpose(0, 2, 3, 1) for name, pictures in self.tensors.items()}
        path.parent.mkdir(parents=True, exist_ok=True)
        np.savez_compressed(path, images=last["generated"], sources=last["source"], targets=last["target"])


def translations(loaded: LoadedGenerator, data: str | None, *, seed: int, count: int) -> Translations:
    """Translate the first pairs of a set of packed pairs, in the fixed order of `StoredSamples`.

    Args:
        loaded: a network that translates.
        data: location of the pairs.
        seed: seed of what the network draws, such as dropout.
        count: number of pairs; fewer where there are not so many.

    Raises:
        FrameworkError: no location is given, or the pairs cannot be read.
    """
    source, target = loaded.drawn.source, loaded.drawn.target
    assert source is not None
    assert target is not None
    if data is None:
        raise FrameworkError(
            f"this network translates pictures: name packed pairs with the fields {source.name!r} and {target.name!r}, "
            "by --data"
        )
    sampler = TranslationSampler(samples=StoredSamples(data, (source, target)), source=source, target=target, seed=seed)
    count = min(count, sampler.count)
    parts = []
    with show_progress("translating", total=count, enabled=loaded.progress) as advance:
        for start in range(0, count, BATCH_SIZE):
            parts.append(sampler.draw(loaded.network, range(start, min(start + BATCH_SIZE, count))))
            advance(len(parts[-1]["generated"]))
    return Translations(tensors={name: np.concatenate([part[name].numpy() for part in parts]) for name in parts[0]})


def _coloured(pictures: Pixels) -> Pixels:
    return pictures.repeat(3, axis=1) if pictures.shape[1] == 1 else pictures


def _filled(pictures: Pixels, count: int) -> Pixels:
    """Return `count` pictures, the missing ones white."""
    missing = np.full((count - len(pictures), *pictures.shape[1:]), 255, dtype=np.uint8)
    return np.concatenate([pictures, missing])
