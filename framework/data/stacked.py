"""Three grey pictures of one set as the channels of an RGB picture: the toy problem of a thousand modes.

Each channel has an order of its own, seeded by (seed, channel), as several sources on one clock have: nothing is
remembered, so a stream begins at any position at once and reads the same on any number of processes. In an epoch every
picture comes once in every channel, and meets others in the next one.
"""

from __future__ import annotations

import dataclasses
import hashlib
import itertools
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from framework.data.batches import Batch
from framework.data.errors import DataError
from framework.data.fields import Field, Image, Label, fields_of
from framework.data.joined import SampleStream, SideBySide, seed_of
from framework.data.labels import MAX_CLASSES
from framework.recipe.checks import check_fields
from framework.recipe.sources import DerivedField, FieldsSource, Shards

CHANNELS = 3


@dataclass(frozen=True, kw_only=True)
class Stacked(FieldsSource):
    """RGB pictures of which each channel is a grey picture of one set, drawn apart from the others.

    Of ten classes there are 1,000 combinations, the modes that `StackedModes` counts: Metz et al. 2016,
    arXiv:1611.02163, section 3.3.1, with the digits of MNIST. A sample has the picture of `of` with three channels and,
    where `of` has classes, a label: the classes of the three channels as the digits of one number, red first.

        Stacked(of=Shards("data/mnist", resolution=32, channels=1))

    Raises:
        RecipeError: `of` is no `Shards`.
        DataError: its samples are other than a grey picture and perhaps a label, or there are too many combinations.
    """

    of: Shards
    """The grey pictures; `--data` says where they are."""
    derive: tuple[DerivedField, ...] = ()
    """Fields that are computed on the device from others and from the clock, in this order."""

    def __post_init__(self) -> None:
        check_fields(self)
        picture, label = _parts(self.of)
        if label is not None and label.classes**CHANNELS > MAX_CLASSES:
            raise DataError(f"data.of: {label.classes} classes have more than {MAX_CLASSES:,} combinations of three")
        if picture.channels != 1:
            raise DataError(f"data.of: its pictures have {picture.channels} channels; stack grey ones, channels=1")
        if self.of.derive:
            raise DataError("data.of: has derived fields; derive them from the stacked picture, Stacked(derive=...)")

    @property
    def fields(self) -> tuple[Field, ...]:
        """The fields of a sample."""
        picture, label = _parts(self.of)
        stacked = dataclasses.replace(picture, channels=CHANNELS)
        return (stacked,) if label is None else (stacked, dataclasses.replace(label, classes=label.classes**CHANNELS))


def _parts(of: Shards) -> tuple[Image, Label | None]:
    """Return the picture and the label of a set.

    Raises:
        DataError: its samples are something else.
    """
    fields = fields_of(of)
    pictures = [one for one in fields if isinstance(one, Image)]
    labels = [one for one in fields if isinstance(one, Label)]
    if len(pictures) != 1 or len(labels) > 1 or len(fields) != len(pictures) + len(labels):
        names = ", ".join(one.name for one in fields)
        raise DataError(f"data.of: has the fields {names}; stack sets of one picture and at most one label")
    return pictures[0], labels[0] if labels else None


class StackedStream:
    """The stream of a stacked source; see `framework.data.stream.Stream` for what is the same.

    Args:
        source: what is stacked.
        opened: opens the stream of the grey pictures with a seed.
        seed: any integer; another seed gives other orders.

    Attributes:
        count: number of samples in an epoch: that of the grey pictures.
        fingerprint: identity of the data: a hash of that of the grey pictures.
        class_names: a name for every combination of classes, where the classes have names.
    """

    def __init__(self, source: Stacked, opened: Callable[[int], SampleStream], *, seed: int) -> None:
        self._source, self._seed = source, seed
        self._streams = tuple(opened(seed_of(seed, f"channel {number}")) for number in range(CHANNELS))
        first = self._streams[0]
        self.count: int = first.count
        self.fingerprint: str = hashlib.sha256(json.dumps(["stacked", first.fingerprint]).encode()).hexdigest()
        names = itertools.product(first.class_names, repeat=CHANNELS) if source.classes else ()
        self.class_names: tuple[str, ...] = tuple(" / ".join(each) for each in names)

    def describe(self) -> dict[str, Any]:
        """Return what was opened and how, as plain values for the record of a run."""
        told = self._streams[0].describe()
        source = self._source
        own = {"fingerprint": self.fingerprint, "channels": source.channels, "classes": source.classes}
        return told | own | {"seed": self._seed, "stacked": CHANNELS}

    def shards_at(self, positions: list[int]) -> list[str]:
        """Return the names of the shards that hold the samples at some positions, each once."""
        names = (name for stream in self._streams for name in stream.shards_at(positions))
        return list(dict.fromkeys(names))

    def batches(
        self,
        start: int,
        *,
        batch_size: int,
        micro_batches: int = 1,
        rank: int = 0,
        world: int = 1,
        stop: int | None = None,
    ) -> StackedBatches:
        """Return this rank's part of the global batches from position `start` on; see `Stream.batches`.

        Raises:
            DataError: an argument is out of range.
        """
        share = {"batch_size": batch_size, "micro_batches": micro_batches, "rank": rank, "world": world, "stop": stop}
        return StackedBatches(self._streams, self._source, start, share)


class StackedBatches(SideBySide):
    """The iterator over a rank's batches of a stacked source."""

    def __init__(self, streams: Sequence[SampleStream], source: Stacked, start: int, share: dict[str, Any]) -> None:
        self._picture, self._label = _parts(source.of)
        super().__init__(streams, start, share)

    def joined(self, parts: list[Batch]) -> dict[str, Tensor]:
        """Return the pictures, one of each stream in a channel, and the number that their classes make."""
        picture, label = self._picture, self._label
        fields = {picture.name: torch.cat([part.fields[picture.name] for part in parts], dim=1)}
        if label is not None:
            classes = torch.zeros(len(parts[0].keys), dtype=torch.int64)
            for part in parts:
                classes = label.classes * classes + part.fields[label.name]
            fields[label.name] = classes
        return fields
