"""Fields of floating-point numbers: vectors of one length, and sets of points of any number.

Their files hold little-endian float32 (IEEE 754), one number after the other, without a header: `.f32`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, ClassVar

import numpy as np

from framework.data.fields import INDEX_SUFFIX, Decoded, Decoder, Field, Row, random_integers
from framework.data.views import View
from framework.utils.ranges import Range

if TYPE_CHECKING:
    import torch
    from torch import Tensor

FLOATS = ("f32",)
"""The extension of the files."""
_FLOAT_BYTES = 4
_EXAMPLE_POINTS = 8


@dataclass(frozen=True)
class Vector(Field):
    """A fixed number of floating-point numbers: a point, a code, measurements."""

    dims: Annotated[int, Range(least=1, most=1 << 20)]
    """How many numbers."""

    extensions: ClassVar[tuple[str, ...]] = FLOATS
    stands_alone: ClassVar[bool] = True

    @property
    def most_bytes(self) -> int:
        """Size of the only file that fits."""
        return _FLOAT_BYTES * self.dims

    def row(self, *, channels_last: bool) -> Row:
        """Return the memory of the numbers, (dims,)."""
        return Row((self.dims,), "float32")

    def decoder(self, *, channels_last: bool) -> Decoder:
        """Return what reads exactly `dims` numbers."""
        return _FloatReader(whole=True)

    def derived(self) -> dict[str, int]:
        """Return `dims`."""
        return {"dims": self.dims}

    def to_tensor(self, rows: Tensor, *, device: torch.device, dtype: torch.dtype) -> Tensor:
        """Return the numbers, (n, dims), in the floating-point type; `rows` are the same as float32."""
        return rows.to(device, non_blocking=True).to(dtype)

    def example(self, count: int, seed: int) -> dict[str, Tensor]:
        """Return standard normal numbers, float32 (count, dims)."""
        return {self.name: _normals((count, self.dims), seed)}


@dataclass(frozen=True)
class Points(Field):
    """Any number of points of a few coordinates each, such as the places of people or of landmarks."""

    dims: Annotated[int, Range(least=1, most=64)]
    """The number of coordinates of a point."""
    most: Annotated[int, Range(least=1, most=1 << 20)] = 1024
    """The most points of a sample; a file with more is refused."""

    extensions: ClassVar[tuple[str, ...]] = FLOATS
    ragged: ClassVar[bool] = True
    stands_alone: ClassVar[bool] = True
    can_be_mirrored: ClassVar[bool] = False

    @property
    def most_bytes(self) -> int:
        """Size of a file with the most points."""
        return _FLOAT_BYTES * self.dims * self.most

    def row(self, *, channels_last: bool) -> Row:
        """Return the memory of the most points, (most, dims)."""
        return Row((self.most, self.dims), "float32")

    def decoder(self, *, channels_last: bool) -> Decoder:
        """Return what reads whole points."""
        return _FloatReader(whole=False)

    def derived(self) -> dict[str, int]:
        """Return `dims`."""
        return {"dims": self.dims}

    def to_tensor(self, rows: Tensor, *, device: torch.device, dtype: torch.dtype) -> Tensor:
        """Return the points of all samples, (total, dims), in the floating-point type; `rows` are those as float32."""
        return rows.to(device, non_blocking=True).to(dtype)

    def example(self, count: int, seed: int) -> dict[str, Tensor]:
        """Return standard normal points, float32 (total, dims), and the sample of each, int64 (total,)."""
        import torch

        counts = random_integers(min(self.most, _EXAMPLE_POINTS) + 1, (count,), seed)
        index = torch.repeat_interleave(torch.arange(count), counts)
        return {self.name: _normals((len(index), self.dims), seed), self.name + INDEX_SUFFIX: index}


class _FloatReader:
    """Reads little-endian float32.

    Args:
        whole: whether a file must fill the array, and not only some of its rows.
    """

    def __init__(self, *, whole: bool) -> None:
        self._whole = whole

    def decode(self, data: bytes, out: np.ndarray, view: View) -> Decoded:
        row_bytes = _FLOAT_BYTES * (out.shape[-1] if out.ndim > 1 else 1)
        count = len(data) // row_bytes
        if len(data) % row_bytes or count > len(out) or (self._whole and count < len(out)):
            wanted = f"{len(out) * row_bytes}" if self._whole else f"at most {len(out)} times {row_bytes}"
            raise ValueError(f"holds {len(data)} bytes, needs {wanted}: little-endian float32")
        values = np.frombuffer(data, "<f4").reshape(count, *out.shape[1:])
        if not np.isfinite(values).all():
            raise ValueError("holds a number that is not finite")
        out[:count] = values
        return Decoded(entries=count)


def _normals(shape: tuple[int, ...], seed: int) -> Tensor:
    import torch

    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))
