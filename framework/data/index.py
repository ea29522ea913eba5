"""The place of each sample inside a shard: NVIDIA DALI's text index, version 1.2, made and read.

Format (DALI `tools/wds2idx.py`): a line `v1.2 <samples>`, then per sample `<ext> <offset> <size> <member name>` for
each of its members, separated by single spaces. Offset and size are those of the member's payload in bytes, so that a
reader needs one `pread` and no tar parser. Keys follow WebDataset's rule: everything before the first dot of the base
name.
"""

from __future__ import annotations

import itertools
import os
import re
import tarfile
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import BinaryIO, NamedTuple, cast, overload

import numpy as np

from framework.data.errors import ManifestError, ShardError
from framework.utils.atomic import write_atomically
from framework.utils.bounded import open_regular, read_file
from framework.utils.errors import FrameworkError

BLOCK_BYTES = 512
MOST_HEADER_BYTES, _MOST_HEADER_READS = 1 << 20, 64
"""Size of all that may be in a tar before a member's payload: long names and attributes have some hundred bytes."""
MOST_INDEX_BYTES = 256 << 20
"""Size of the largest index: that of four million samples in one shard."""
_SHORTEST_LINE_BYTES = 12  # `a 512 0 b.a`
_MOST_DIGITS = 18
MAKE_ANEW = "make it anew: `framework data index`"
"""The remedy for a wrong index, for the end of an error."""
IMAGE_EXTENSIONS = ("jpg", "jpeg", "png", "webp")
"""The usual extensions of pictures, which are looked for first."""
OTHER_IMAGE_EXTENSIONS = (
    *("jpe", "jfif", "avif", "heic", "heif", "hif", "gif", "apng"),
    *("bmp", "tif", "tiff", "pnm", "ppm", "pgm", "pbm"),
)
"""The other extensions of pictures."""
# Members that other readers execute or unpickle when they decode them. They are refused by name, never opened.
UNSAFE_EXTENSIONS = frozenset(
    extension
    for family in (
        "pkl pickle joblib dill cloudpickle",
        "pth pt pt2 ckpt bin",
        "npy npz mat ten tb",
        "py pyc pyd so dll",
    )
    for extension in family.split()
)


class Member(NamedTuple):
    """One file of a sample: extension (lower case), payload offset and size in bytes, name in the tar."""

    extension: str
    offset: int
    size: int
    name: str


class SampleIndex(NamedTuple):
    """One sample: its key and its members in the order of the tar."""

    key: str
    members: tuple[Member, ...]

    def find(self, *extensions: str) -> Member | None:
        """Return the first member with one of these extensions, or None."""
        return next((member for member in self.members if member.extension in extensions), None)

    def picture(self, prefix: str = "") -> Member | None:
        """Return the member with the picture: the first of a usual kind, else the first of another kind, or None.

        Args:
            prefix: beginning of the extension, such as `depth.` for `7.depth.png`.
        """
        if not prefix:
            return self.find(*IMAGE_EXTENSIONS) or self.find(*OTHER_IMAGE_EXTENSIONS)
        usual, other = ([prefix + kind for kind in kinds] for kinds in (IMAGE_EXTENSIONS, OTHER_IMAGE_EXTENSIONS))
        return self.find(*usual) or self.find(*other)

    def no_picture(self) -> str:
        """Return what an error says of a sample without a picture."""
        kinds = ", ".join((*IMAGE_EXTENSIONS, *OTHER_IMAGE_EXTENSIONS))
        return f"has no picture ({kinds}), only {', '.join(member.extension for member in self.members)}"


def key_and_extension(name: str) -> tuple[str, str] | None:
    """Return key and extension (in lower case) of a member name by WebDataset's rule; None if it has no extension."""
    from webdataset.tariterators import (
        base_plus_ext,
    )  # here: webdataset imports torch, which loading workers do not need

    key, extension = base_plus_ext(name)
    return (key, extension.lower()) if key and extension else None


def index_shard(path: str | os.PathLike[str]) -> list[SampleIndex]:
    """Read the headers of a tar file one after the other, and return its samples; payloads are not read.

    This is stricter than `tarfile` and WebDataset, which take a destroyed header for the end of the archive.

    Raises:
        ShardError: it is no tar, is truncated, has a destroyed header, no end mark or no sample; members of a sample
            are not adjacent; or a member is a link, a device, unsafe, or has a name without extension or with a space.
    """
    samples: list[SampleIndex] = []
    seen: set[str] = set()
    try:
        with open_regular(Path(path)) as file:
            end, num_bytes = 0, os.fstat(file.fileno()).st_size
            for info in _headers(_Headers(file, num_bytes=num_bytes), path, samples):
                end = info.offset_data + -(-info.size // BLOCK_BYTES) * BLOCK_BYTES
                if not 0 <= info.size <= num_bytes:  # a negative one would lead back to the same header for ever
                    raise ShardError(path, f"damaged tar: member {info.name!r} says it has {info.size} bytes")
                if not info.isdir() and not _is_shadow(info.name):
                    _add_member(samples, seen, info, path)
            _check_end(file, path, end, len(samples))
    except ShardError:
        raise
    except FrameworkError as error:
        raise ShardError(path, str(error)) from None
    except OSError as error:
        raise ShardError(path, f"cannot be read ({error.strerror or error})") from None
    if not samples:
        raise ShardError(path, "holds no samples")
    return samples


class _Headers:
    """A tar as `tarfile` reads it when nobody asks for payloads: headers and what extends them, of bounded length.

    A damaged header asks for any length, and one that extends the next may be followed by another without end.
    """

    def __init__(self, file: BinaryIO, *, num_bytes: int) -> None:
        self._file, self.num_bytes = file, num_bytes
        self.next_member()

    def next_member(self) -> None:
        """Begin to count the headers of another member."""
        self._bytes_left, self._reads_left = MOST_HEADER_BYTES, _MOST_HEADER_READS

    def read(self, size: int) -> bytes:
        """Return so many bytes, fewer at the end of the file.

        Raises:
            tarfile.TarError: the headers of one member have become too long.
        """
        size = min(size, self.num_bytes) if size >= 0 else self.num_bytes
        self._bytes_left -= size
        self._reads_left -= 1
        if self._bytes_left < 0:
            raise tarfile.ReadError(f"the headers of a member are longer than {MOST_HEADER_BYTES} bytes")
        if self._reads_left < 0:  # `tarfile` reads each inside the one before, in time that grows with their square
            raise tarfile.ReadError("a member has too many headers")
        return self._file.read(size)

    def seek(self, position: int) -> int:
        """Go to a position in the file, and return it."""
        return self._file.seek(position)

    def tell(self) -> int:
        """Return the position in the file."""
        return self._file.tell()


def _headers(file: _Headers, path: object, samples: Sequence[SampleIndex]) -> Iterator[tarfile.TarInfo]:
    """Yield the members of a tar, in order; whatever `tarfile` raises at damaged bytes becomes a ShardError."""
    try:
        with tarfile.open(fileobj=cast(BinaryIO, file), mode="r:") as tar:
            while (info := tar.next()) is not None:
                tar.members.clear()  # type: ignore[attr-defined]  # it would remember all of them
                file.next_member()
                yield info
    except OSError:
        raise
    except Exception as error:  # TarError, and RecursionError and the like for what nobody writes
        kind = "" if isinstance(error, tarfile.TarError | EOFError) else f"{type(error).__name__}: "
        raise ShardError(path, f"damaged tar after {len(samples)} samples: {kind}{str(error)[:200]}") from None


def _is_shadow(name: str) -> bool:
    """Return whether a member is what macOS writes beside a file: its attributes, named `._` and the file's name."""
    return name.rpartition("/")[2].startswith("._") or "__MACOSX" in name.split("/")


def _add_member(samples: list[SampleIndex], seen: set[str], info: tarfile.TarInfo, path: object) -> None:
    if not info.isreg() or info.sparse is not None:
        raise ShardError(path, f"member {info.name!r} is not a plain file")
    named = key_and_extension(info.name)
    if named is None or any(c.isspace() for c in info.name):
        raise ShardError(path, f"member name {info.name!r}: need `<key>.<extension>` without spaces")
    key, extension = named
    if "\0" in info.name or not _is_utf8(info.name):
        raise ShardError(path, f"member name {info.name!a} is no text in UTF-8; write the shard anew")
    refuse_unsafe(extension, shard=path, key=key)
    member = Member(extension, info.offset_data, info.size, info.name)
    if samples and samples[-1].key == key:
        if (other := samples[-1].find(extension)) is not None:
            text = f"members {other.name!r} and {info.name!r} are of one kind, only one can be meant"
            raise ShardError(path, f"{text}; write the shard anew", key=key)
        samples[-1] = SampleIndex(key, (*samples[-1].members, member))
        return
    if key in seen:
        raise ShardError(path, "members of the sample are not adjacent; write the shard anew, sorted by name", key=key)
    seen.add(key)
    samples.append(SampleIndex(key, (member,)))


def refuse_unsafe(extension: str, *, shard: object, key: str) -> None:
    """Refuse a member whose usual decoder unpickles or executes it.

    Raises:
        ShardError: names shard, sample and extension.
    """
    if extension.rpartition(".")[2] in UNSAFE_EXTENSIONS:
        raise ShardError(shard, f"member .{extension} is refused: decoding such files can run code; remove it", key=key)


def _is_utf8(name: str) -> bool:
    try:
        name.encode("utf-8")
    except UnicodeEncodeError:
        return False
    return True


def _check_end(file: BinaryIO, path: object, end: int, num_samples: int) -> None:
    """Refuse a tar that does not end in two zero blocks: `tarfile` stops without an error at a bad header."""
    size = os.fstat(file.fileno()).st_size
    file.seek(min(end, size))
    tail = file.read(2 * BLOCK_BYTES)
    if end > size or len(tail) < 2 * BLOCK_BYTES or any(tail):
        raise ShardError(path, f"damaged tar: no end mark after {num_samples} samples (byte {end} of {size})")


def format_index(samples: Sequence[SampleIndex]) -> str:
    """Return the text of a `.idx` file."""
    rows = (" ".join(f"{_raw_extension(m)} {m.offset} {m.size} {m.name}" for m in sample.members) for sample in samples)
    return f"v1.2 {len(samples)}\n" + "".join(f"{row}\n" for row in rows)


def _raw_extension(member: Member) -> str:
    return member.name[len(member.name) - len(member.extension) :]  # case as in the tar: DALI compares case-sensitively


def write_index(path: str | os.PathLike[str], samples: Iterable[SampleIndex]) -> Path:
    """Write a `.idx` file atomically, and return its path."""
    return write_atomically(Path(path), format_index(list(samples)))


class IndexLines(Sequence[SampleIndex]):
    """The samples of one `.idx` file, kept as its text (about 60 bytes a sample); a line is parsed when asked for."""

    def __init__(self, text: bytes, *, origin: object) -> None:
        if text and not text.endswith(b"\n"):
            text += b"\n"
        self._text, self._origin = text, origin
        if text.count(b"\n") * _SHORTEST_LINE_BYTES > len(text) + _SHORTEST_LINE_BYTES:
            raise ManifestError(f"{origin}: not a v1.2 index: its lines are too short; {MAKE_ANEW}")
        self._ends = np.flatnonzero(np.frombuffer(text, np.uint8) == ord("\n"))
        head = text[: self._ends[0]].split(b" ") if len(self._ends) else []
        if len(head) != 2 or head[0] != b"v1.2" or not re.fullmatch(rb"[0-9]{1,18}", head[1]):
            raise ManifestError(f"{origin}: not a v1.2 index (starts {text[:40]!r}); {MAKE_ANEW}")
        if int(head[1]) != len(self):
            said, found = int(head[1]), len(self)
            raise ManifestError(f"{origin}: says {said} samples, lists {found}; {MAKE_ANEW}")

    def __len__(self) -> int:
        return len(self._ends) - 1

    @overload
    def __getitem__(self, index: int) -> SampleIndex: ...
    @overload
    def __getitem__(self, index: slice) -> list[SampleIndex]: ...
    def __getitem__(self, index: int | slice) -> SampleIndex | list[SampleIndex]:
        if isinstance(index, slice):
            return [self[i] for i in range(*index.indices(len(self)))]
        if not -len(self) <= index < len(self):
            raise IndexError(index)
        number = index % len(self)
        line = self._text[self._ends[number] + 1 : self._ends[number + 1]]
        words = line.decode("utf-8", "replace").split(" ")
        members = []
        key = words[3][: -len(words[0]) - 1] if len(words) > 3 else ""
        try:
            for i in range(0, len(words), 4):
                member = Member(words[i].lower(), int(words[i + 1]), int(words[i + 2]), words[i + 3])
                if member.offset < BLOCK_BYTES or member.size < 0 or member.name != f"{key}.{words[i]}":
                    raise ValueError
                members.append(member)
        except (IndexError, ValueError):
            raise ManifestError(f"{self._origin}: not a line of a v1.2 index: {line!r:.80}; {MAKE_ANEW}") from None
        return SampleIndex(key, tuple(members))

    def check_order(self, *, num_bytes: int) -> None:
        """Refuse an index whose members do not follow each other inside a shard of `num_bytes`.

        This finds an index that lists samples twice, in another order, or beyond the end. An index that is wrong about
        a single member is found when that member's header is read. Nothing of the shard is read here.

        Raises:
            ManifestError: it describes another shard, or none.
        """
        words = self._text[self._ends[0] + 1 :].split()
        columns = words[1::4], words[2::4]
        try:
            # One long word would make a matrix of its width.
            if len(words) % 4 or max(map(len, itertools.chain(*columns)), default=0) > _MOST_DIGITS:
                raise ValueError
            offsets, sizes = (np.array(column, dtype="S").astype(np.int64) for column in columns)
        except (ValueError, OverflowError):
            raise ManifestError(f"{self._origin}: offsets and sizes must be numbers of bytes; {MAKE_ANEW}") from None
        # Each member ends before the header of the next one begins.
        inside = (sizes >= 0) & (sizes <= num_bytes) & (offsets >= BLOCK_BYTES) & (offsets <= num_bytes)
        headers = np.append(offsets - BLOCK_BYTES, num_bytes)  # the beginning of each member's header, and the end
        if not inside.all() or (offsets + sizes > headers[1:]).any():
            text = f"members overlap or lie outside the {num_bytes} bytes of the shard"
            raise ManifestError(f"{self._origin}: {text}; {MAKE_ANEW}")


def parse_index(text: str | bytes, *, origin: object) -> IndexLines:
    """Return the samples in the text of a `.idx` file; `origin` names it in errors.

    Raises:
        ManifestError: it is no v1.2 index, or holds another number of lines than it says.
    """
    return IndexLines(text.encode() if isinstance(text, str) else text, origin=origin)


def read_index(path: str | os.PathLike[str], *, most_bytes: int = MOST_INDEX_BYTES) -> IndexLines:
    """Return the samples in a `.idx` file of at most so many bytes.

    Raises:
        ManifestError: see `parse_index`, or the file cannot be read or is larger.
    """
    try:
        text = read_file(Path(path), most_bytes=most_bytes, error=ManifestError)
    except OSError as error:
        raise ManifestError(f"{path}: cannot be read ({error.strerror})") from None
    return IndexLines(text, origin=path)


def most_index_bytes(shard_bytes: int) -> int:
    """Return the largest size in bytes of an index for a shard of this size: a line is hardly longer than a header."""
    return min(MOST_INDEX_BYTES, 2 * shard_bytes + BLOCK_BYTES)
