"""The fields of a sample: which files of a shard they are, what arrays their bytes become, and what networks get.

A sample is named fields, commonly an image and a label. A batch holds every field as the shards have it
(`Batch.fields`), and the field turns that into tensors on the device. In a shard, the field `depth` of the sample `7`
is the file `7.depth.png`; where a sample has only one image, or one label, `7.png` and `7.cls` do as well.

Loading workers use this module and never need torch, which takes seconds to import: methods that do import it.
"""

from __future__ import annotations

import re
from abc import ABC, abstractmethod
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Annotated, ClassVar, NamedTuple, Protocol

import numpy as np

from framework.data.decode import LayerDecoder, PictureDecoder, Size, height_and_width
from framework.data.errors import DataError
from framework.data.index import IMAGE_EXTENSIONS, OTHER_IMAGE_EXTENSIONS, Member, SampleIndex
from framework.data.labels import MAX_CLASSES, parse_label
from framework.data.views import View
from framework.utils.pictures import MOST_BYTES
from framework.utils.ranges import Range, check_numbers

if TYPE_CHECKING:
    import torch
    from torch import Tensor

    from framework.recipe.sources import Source

PICTURES = (*IMAGE_EXTENSIONS, *OTHER_IMAGE_EXTENSIONS)
"""The extensions of pictures, those that are looked for first in front."""
LOSSLESS = ("png", "gif", "tif", "tiff", "bmp", "pgm", "pbm")
"""The extensions of label maps."""
INDEX_SUFFIX = "_index"
"""The ending of the name under which a batch holds the samples to which the entries of a ragged field belong."""


class Row(NamedTuple):
    """The memory that one sample's field takes: shape and type of the array."""

    shape: tuple[int, ...]
    dtype: str


class Decoded(NamedTuple):
    """What is known of a field after decoding, beside its values.

    Attributes:
        animated: True if a picture had further frames, which were left out.
        entries: number of entries of a ragged field that were filled.
    """

    animated: bool = False
    entries: int = 0


class Decoder(Protocol):
    """Turns a field's bytes into an array; may keep scratch memory, so each thread has its own."""

    def decode(self, data: bytes, out: np.ndarray, view: View) -> Decoded:
        """Fill `out`, an array as `Field.row` says, from the bytes of a file.

        Raises:
            ValueError: the bytes cannot be used. The caller adds shard, key and field.
        """
        ...


@dataclass(frozen=True)
class Field(ABC):
    """One named part of every sample.

    Raises:
        DataError: the name is no lower-case identifier.
        FrameworkError: a number that is out of range.
    """

    name: str
    """The name by which games, terms and networks know it, unique in a recipe."""

    extensions: ClassVar[tuple[str, ...]]
    """The extensions of the files that it is read from, the usual ones first; empty for what is only computed."""
    ragged: ClassVar[bool] = False
    """Whether samples have different numbers of entries: a batch then holds the entries of all samples one after the
    other, and the number of the sample of each under the field's name with `INDEX_SUFFIX`."""
    stands_alone: ClassVar[bool] = False
    """Whether `<key>.<extension>` is its file where no other field of a sample is of its class."""
    can_be_mirrored: ClassVar[bool] = True
    """Whether a sample with this field may be mirrored and cropped."""

    def __post_init__(self) -> None:
        if not isinstance(self.name, str) or not re.fullmatch(r"[a-z][a-z0-9_]{0,49}", self.name):
            raise DataError(f"field {self.name!r}: a name has lower-case letters, digits and underscores")
        check_numbers(self)

    @property
    def most_bytes(self) -> int:
        """Size of the largest file that is read."""
        return MOST_BYTES

    def find(self, sample: SampleIndex, prefix: str) -> Member | None:
        """Return the file whose extension is `prefix` and one of the field's own, or None."""
        return sample.find(*([prefix + extension for extension in self.extensions] if prefix else self.extensions))

    @abstractmethod
    def row(self, *, channels_last: bool) -> Row:
        """Return the memory of one sample; of a ragged field, that of the most entries."""

    @abstractmethod
    def decoder(self, *, channels_last: bool) -> Decoder:
        """Return what decodes the field's files."""

    @abstractmethod
    def derived(self) -> dict[str, int]:
        """Return the options that networks take from the field unless their recipe names them."""

    @abstractmethod
    def to_tensor(self, rows: Tensor, *, device: torch.device, dtype: torch.dtype) -> Tensor:
        """Return what networks take, on the device.

        Args:
            rows: this field of n samples as a batch has it, (n, ...), on the host.
            device: where the networks are.
            dtype: floating-point type of the networks.
        """

    @abstractmethod
    def example(self, count: int, seed: int) -> dict[str, Tensor]:
        """Return random rows of `count` samples as a batch has them, by name, the same for the same seed."""


@dataclass(frozen=True)
class Picture(Field):
    """What images, masks and label maps have in common: a size, and that they are cropped and mirrored together."""

    size: Size
    """The side in pixels, or height and width. Pictures in the shards may be 2, 4, 8, ... times as large."""
    stored: Size | None = field(default=None, kw_only=True)
    """The side, or height and width, of the pictures in the shards, of which a part of `size` at a random place is
    taken, the same for all fields; None: they are not cropped."""

    def __post_init__(self) -> None:
        super().__post_init__()
        for name in ("size", "stored"):
            value = getattr(self, name)
            if value is not None and not _is_size(value):
                raise DataError(
                    f"field {self.name!r}: {name} is {value!r}, must be a side or (height, width) in pixels"
                )
        if min(self.spare) < 0:
            raise DataError(f"field {self.name!r}: stored is {self.stored}, smaller than size, {self.size}")

    def find(self, sample: SampleIndex, prefix: str) -> Member | None:
        """Return the first picture of a usual kind, else of another one; see `Field.find`."""
        return sample.picture(prefix) if self.extensions is PICTURES else super().find(sample, prefix)

    @property
    def height(self) -> int:
        """Height in pixels."""
        return height_and_width(self.size)[0]

    @property
    def width(self) -> int:
        """Width in pixels."""
        return height_and_width(self.size)[1]

    @property
    def stored_size(self) -> tuple[int, int]:
        """Height and width of what is cropped, in pixels."""
        return height_and_width(self.size if self.stored is None else self.stored)

    @property
    def spare(self) -> tuple[int, int]:
        """How much higher and wider that is, in pixels."""
        return self.stored_size[0] - self.height, self.stored_size[1] - self.width

    def derived(self) -> dict[str, int]:
        """Return `resolution` for squares, and `height_pixels` and `width_pixels` for other rectangles."""
        square = self.height == self.width
        return {"resolution": self.height} if square else {"height_pixels": self.height, "width_pixels": self.width}


@dataclass(frozen=True)
class Image(Picture):
    """A picture of 8 bits a channel, read by the rule of `framework.data.pictures`."""

    channels: int = 3
    """1: grey, 3: RGB, 4: RGB and opacity (255 where the picture has none)."""

    extensions: ClassVar[tuple[str, ...]] = PICTURES
    stands_alone: ClassVar[bool] = True

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.channels not in (1, 3, 4):
            raise DataError(f"field {self.name!r}: channels is {self.channels}, must be 1 (grey), 3 (RGB) or 4 (RGBA)")

    def row(self, *, channels_last: bool) -> Row:
        """Return the memory of pixels from 0 to 255: (C, H, W), or (H, W, C) with channels_last."""
        plane = (self.height, self.width)
        return Row((*plane, self.channels) if channels_last else (self.channels, *plane), "uint8")

    def decoder(self, *, channels_last: bool) -> Decoder:
        """Return what decodes pictures; nothing of a file is decoded before its size is checked."""
        inner: PictureDecoder | LayerDecoder
        if self.channels == 4:
            inner = LayerDecoder(resolution=self.stored_size, kind="alpha", channels_last=channels_last)
        else:
            inner = PictureDecoder(resolution=self.stored_size, channels=self.channels, channels_last=channels_last)
        return _Cropping(inner, self, channels_last)

    def derived(self) -> dict[str, int]:
        """Return the size, see `Picture.derived`, and `channels`."""
        return super().derived() | {"channels": self.channels}

    def to_tensor(self, rows: Tensor, *, device: torch.device, dtype: torch.dtype) -> Tensor:
        """Return pixels (n, C, H, W) in [-1, 1]; `rows` are (n, C, H, W) uint8."""
        import torch

        # Loaders hand over pixels as decoders make them (channels last); the device sorts them into planes.
        pixels = rows.to(device, non_blocking=True)
        return pixels.to(dtype, memory_format=torch.contiguous_format).div_(127.5).sub_(1.0)

    def example(self, count: int, seed: int) -> dict[str, Tensor]:
        """Return random pixels, uint8 (count, C, H, W)."""
        return {self.name: random_integers(256, (count, self.channels, self.height, self.width), seed).byte()}


@dataclass(frozen=True)
class Mask(Picture):
    """A picture of 0 and 1: 1 where the file's grey level is at least 128. It is never blended with its neighbours."""

    extensions: ClassVar[tuple[str, ...]] = PICTURES

    def row(self, *, channels_last: bool) -> Row:
        """Return the memory of 0 and 1: (1, H, W), or (H, W, 1) with channels_last."""
        return Row((self.height, self.width, 1) if channels_last else (1, self.height, self.width), "uint8")

    def decoder(self, *, channels_last: bool) -> Decoder:
        """Return what decodes masks; nothing of a file is decoded before its size is checked."""
        return _Cropping(LayerDecoder(resolution=self.stored_size, kind="mask"), self, channels_last)

    def to_tensor(self, rows: Tensor, *, device: torch.device, dtype: torch.dtype) -> Tensor:
        """Return 0 and 1, (n, 1, H, W), in the floating-point type; `rows` are the same as uint8."""
        return rows.to(device, non_blocking=True).to(dtype).contiguous()

    def example(self, count: int, seed: int) -> dict[str, Tensor]:
        """Return random values 0 and 1, uint8 (count, 1, H, W)."""
        return {self.name: random_integers(2, (count, 1, self.height, self.width), seed).byte()}


@dataclass(frozen=True)
class LabelMap(Picture):
    """A class for every pixel: the numbers of a palette's entries, or grey levels, of a file that loses nothing."""

    classes: Annotated[int, Range(least=1, most=256)]
    """The number of classes; a file with a higher index is refused."""

    extensions: ClassVar[tuple[str, ...]] = LOSSLESS

    def row(self, *, channels_last: bool) -> Row:
        """Return the memory of class numbers, (H, W)."""
        return Row((self.height, self.width), "uint8")

    def decoder(self, *, channels_last: bool) -> Decoder:
        """Return what decodes label maps; nothing of a file is decoded before its size is checked."""
        return _Cropping(LayerDecoder(resolution=self.stored_size, kind="indices", classes=self.classes), self, None)

    def derived(self) -> dict[str, int]:
        """Return the size, see `Picture.derived`, and `classes`."""
        return super().derived() | {"classes": self.classes}

    def to_tensor(self, rows: Tensor, *, device: torch.device, dtype: torch.dtype) -> Tensor:
        """Return class numbers (n, H, W) int64; `rows` are the same as uint8."""
        return rows.to(device, non_blocking=True).long()

    def example(self, count: int, seed: int) -> dict[str, Tensor]:
        """Return random class numbers, uint8 (count, H, W)."""
        return {self.name: random_integers(self.classes, (count, self.height, self.width), seed).byte()}


@dataclass(frozen=True)
class Label(Field):
    """A class."""

    classes: Annotated[int, Range(least=1, most=MAX_CLASSES)]
    """The number of classes."""

    extensions: ClassVar[tuple[str, ...]] = ("cls",)
    stands_alone: ClassVar[bool] = True

    def row(self, *, channels_last: bool) -> Row:
        """Return the memory of one class number."""
        return Row((), "int64")

    def decoder(self, *, channels_last: bool) -> Decoder:
        """Return what reads an ASCII integer."""
        return _LabelReader(self.classes)

    def derived(self) -> dict[str, int]:
        """Return `classes`."""
        return {"classes": self.classes}

    def to_tensor(self, rows: Tensor, *, device: torch.device, dtype: torch.dtype) -> Tensor:
        """Return classes (n,) int64; `rows` are the same on the host."""
        return rows.to(device, non_blocking=True)

    def example(self, count: int, seed: int) -> dict[str, Tensor]:
        """Return random classes, int64 (count,)."""
        return {self.name: random_integers(self.classes, (count,), seed)}


def fields_of(source: Source) -> tuple[Field, ...]:
    """Return the fields of a recipe's source, those of its short form written out.

    Raises:
        DataError: something else than a field is among them.
    """
    if not source.fields:
        return fields_of_images(resolution=source.resolution, channels=source.channels, classes=source.classes)
    for one in source.fields:
        if not isinstance(one, Field):
            raise DataError(f"data.fields: {one!r:.60} is no framework.data.fields.Field")
    return source.fields


def fields_of_images(*, resolution: int, channels: int, classes: int) -> tuple[Field, ...]:
    """Return the fields of the usual sample: `Image("image", resolution, channels)`, and `Label("label", classes)`.

    Args:
        resolution: side of the images in pixels.
        channels: 1 (grey) or 3 (RGB).
        classes: number of classes; 0: no label.

    Raises:
        DataError: a value that cannot work.
    """
    if channels not in (1, 3) or resolution < 1 or classes < 0:
        raise DataError(
            f"resolution is {resolution}, must be positive; channels is {channels}, must be 1 or 3; "
            f"classes is {classes}, must not be negative"
        )
    image = Image("image", resolution, channels)
    return (image, Label("label", classes)) if classes else (image,)


class _Cropping:
    """Decodes a picture, mirrored or not, and takes the part of that which the view says.

    Args:
        inner: decodes pictures of the stored size.
        of: the field.
        channels_last: whether arrays are (H, W, C) and not (C, H, W); None for (H, W).
    """

    def __init__(self, inner: PictureDecoder | LayerDecoder, of: Picture, channels_last: bool | None) -> None:
        self._inner, self._spare, self._size = inner, of.spare, (of.height, of.width)
        self._first = 1 if channels_last is False else 0  # the axis of rows
        row = of.row(channels_last=bool(channels_last))
        self._whole: np.ndarray | None = None
        if any(self._spare):
            shape = list(row.shape)
            shape[self._first : self._first + 2] = inner.size
            self._whole = np.empty(shape, row.dtype)

    def decode(self, data: bytes, out: np.ndarray, view: View) -> Decoded:
        if self._whole is None:
            return Decoded(self._inner.decode(data, self._squeezed(out), flip=view.flip))
        animated = self._inner.decode(data, self._squeezed(self._whole), flip=view.flip)
        top, left = view.corner(self._spare)
        part = (slice(top, top + self._size[0]), slice(left, left + self._size[1]))
        np.copyto(out, self._whole[(slice(None), *part) if self._first else part])
        return Decoded(animated)

    def _squeezed(self, pixels: np.ndarray) -> np.ndarray:
        """Return the array without the axis of a single channel where the decoder gives (H, W)."""
        if isinstance(self._inner, LayerDecoder) and not self._inner.has_channels:
            return pixels.reshape(self._inner.size)
        return pixels


class _LabelReader:
    def __init__(self, classes: int) -> None:
        self._classes = classes

    def decode(self, data: bytes, out: np.ndarray, view: View) -> Decoded:
        out[...] = parse_label(data, classes=self._classes)
        return Decoded()


def _is_size(value: object) -> bool:
    sides = value if isinstance(value, tuple) and len(value) == 2 else (value,)
    return all(isinstance(side, int) and not isinstance(side, bool) and 1 <= side <= 1 << 20 for side in sides)


def random_integers(high: int, shape: tuple[int, ...], seed: int) -> Tensor:
    """Return integers in range(high), int64 of this shape, the same for the same seed."""
    import torch

    return torch.randint(high, shape, generator=torch.Generator().manual_seed(seed))
