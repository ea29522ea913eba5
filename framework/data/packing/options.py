"""The options of `framework pack`: they and the source decide the bytes of the data set, and nothing else does."""

from __future__ import annotations

import dataclasses
import re
from typing import Literal

from framework.data.errors import DataError

Encoding = Literal["png", "webp", "jpg", "keep"]
Crop = Literal["center", "wide", "none"]
Kind = Literal["image", "mask", "label map", "vector"]
Filter = Literal["lanczos", "box", "bilinear", "bicubic", "hamming", "nearest"]


@dataclasses.dataclass(frozen=True, kw_only=True)
class PackOptions:
    """The options that turn pictures into a data set.

    Raises:
        DataError: a value that cannot work; the message names the field.
    """

    resolution: tuple[int, ...] | None = None
    """Side in pixels; several (4 8 16 32: progressive growing) make a data set each. Default: the first picture's."""
    channels: Literal[1, 3] | None = None
    """1 = grey, 3 = RGB. Default: those of the first picture."""
    encoding: Encoding = "png"
    """Format. png, webp: lossless; jpg: quality 95, 4:4:4; keep: that of most files. Files that fit go in untouched."""
    crop: Crop = "center"
    """Part that is used. center: the largest square; wide: 4:3 with black bars (LSUN Cars); none: all, stretched."""
    resize_filter: Filter = "lanczos"
    """Filter from the source to the (largest) resolution."""
    pyramid_filter: Filter = "box"
    """Filter from the largest resolution to the smaller ones (box: the averages of ProGAN)."""
    pad: int | None = None
    """Side in pixels up to which zeros are added instead of cropping (28 -> 32 for the MNIST family)."""
    fields: tuple[str, ...] = ()
    """Names of the pictures of a sample: sub-folders with files of equal names, or parts of aligned pictures."""
    folders: tuple[str, ...] = ()
    """Sub-folders of the fields, in their order (A B). Default: the names of the fields."""
    aligned: bool = False
    """Cut each picture into its fields, which stand side by side in it from left to right."""
    masks: tuple[str, ...] = ()
    """Fields that are masks: black or white (from grey level 128 on), resized without blending."""
    label_maps: tuple[str, ...] = ()
    """Fields whose pixels are class numbers (palette or grey level), resized without blending."""
    labels: bool = True
    """Read class labels. Without them the data set is unconditional."""
    label_column: str = ""
    """Column of a table that holds the labels: its name in the header, or its number from 1 on. Default: none does."""
    class_names: tuple[str, ...] = ()
    """Names of the classes, in order. Default: the folder names, or the numbers."""
    per_class: int | None = None
    """Number of pictures to take of each class, the first ones. Default: all."""
    seed: int | None = 0
    """Seed of the one shuffle before writing, which also balances the classes per shard. None: keep the order."""
    shard_bytes: int = 128_000_000
    """Largest size of a shard in bytes (with several resolutions: of the largest one)."""
    shard_samples: int | None = None
    """Largest number of pictures in a shard."""
    split: str = "train"
    """First part of the shard names; also chooses the files of an idx folder (train, test)."""
    name: str = ""
    """Name of the data set. Default: the name of the source."""
    license: str = ""
    """Licence of the pictures, for the manifest ("MIT", "CC BY 4.0")."""
    skip_bad: bool = False
    """Leave out pictures that cannot be used, and count them in the manifest, instead of failing."""

    def __post_init__(self) -> None:
        # One number is a tuple of one; several are kept in order.
        if isinstance(self.resolution, int):
            object.__setattr__(self, "resolution", (self.resolution,))
        if self.resolution is not None:
            sides = tuple(sorted(set(self.resolution)))
            self._refuse(not sides or sides[0] < 1, "resolution", self.resolution, "must be positive sides in pixels")
            object.__setattr__(self, "resolution", sides)
        # Numbers.
        for name in ("pad", "per_class", "shard_samples"):
            value = getattr(self, name)
            self._refuse(value is not None and value < 1, name, value, "must be positive")
        self._refuse(self.shard_bytes < 4096, "shard_bytes", self.shard_bytes, "must be at least 4096")
        self._refuse(self.channels not in (None, 1, 3), "channels", self.channels, "must be 1 or 3")
        # Choices, and names that become parts of file names.
        for name, kind in (
            ("encoding", Encoding),
            ("crop", Crop),
            ("resize_filter", Filter),
            ("pyramid_filter", Filter),
        ):
            known = kind.__args__  # type: ignore[attr-defined]
            self._refuse(getattr(self, name) not in known, name, getattr(self, name), f"must be one of {known}")
        self._refuse(self.seed is not None and not 0 <= self.seed < 2**64, "seed", self.seed, "must be in 0 .. 2**64-1")
        word = re.fullmatch(r"[A-Za-z0-9_]+", self.split)
        self._refuse(not word, "split", self.split, "must be letters, digits and underscores")
        self._check_fields()
        # Options that exclude each other.
        asked = bool(self.per_class or self.class_names or self.label_column)
        self._refuse(not self.labels and asked, "labels", False, "but classes are asked for")
        self._refuse(len(set(self.class_names)) != len(self.class_names), "class_names", self.class_names, "repeats")

    def _check_fields(self) -> None:
        for name in self.fields:
            word = re.fullmatch(r"[a-z][a-z0-9_]{0,49}", name)
            self._refuse(not word, "fields", name, "must be lower-case letters, digits and underscores")
        self._refuse(len(set(self.fields)) != len(self.fields), "fields", self.fields, "repeats")
        self._refuse(bool(self.folders) and self.aligned, "folders", self.folders, "but aligned parts are in one file")
        if self.folders:
            self._refuse(len(self.folders) != len(self.fields), "folders", self.folders, "must be one for each field")
        self._refuse(self.aligned and len(self.fields) < 2, "aligned", True, "needs two fields or more")
        self._refuse(self.aligned and bool(self.label_maps), "label_maps", self.label_maps, "cannot be parts of others")
        for option in ("masks", "label_maps"):
            for name in getattr(self, option):
                self._refuse(name not in self.fields, option, name, f"must be one of the fields, {self.fields}")
        both = set(self.masks) & set(self.label_maps)
        self._refuse(bool(both), "masks", self.masks, "are label_maps, too")

    def kind(self, field: str) -> Kind:
        """Return what a field holds."""
        if field in self.masks:
            return "mask"
        return "label map" if field in self.label_maps else "image"

    def request(self) -> dict[str, object]:
        """Return the options as they identify a data set, those that were added later only where they are used."""
        values = dataclasses.asdict(self)
        later = ("fields", "folders", "aligned", "masks", "label_maps", "label_column")
        return {name: value for name, value in values.items() if value or name not in later}

    @staticmethod
    def _refuse(wrong: bool, field: str, value: object, why: str) -> None:
        if wrong:
            raise DataError(f"pack: {field} is {value!r}, {why}")
