"""Files for import that were made to do harm, by name; each is refused with a sentence, or holds what it says."""

from __future__ import annotations

import functools
import io
import pickle
import zipfile
from collections.abc import Callable
from random import Random

import numpy as np
import torch

from tests.fuzz.mutation import damaged

_LEGACY_BEGIN = (torch.serialization.MAGIC_NUMBER, 1001, {"protocol_version": 1001, "little_endian": True})
_KEY = b"X\x01\0\0\0w"
_STORAGE = b"(X\x07\0\0\0storagectorch\nFloatStorage\nX\x01\0\0\x000X\x03\0\0\0cpu%btQ"
_FLOAT = b"G\x3f\xf0\0\0\0\0\0\0"
ONE, TWO, FOUR = b"K\x01", b"K\x02", b"K\x04"


def torch_zip(content: bytes) -> bytes:
    """A file of `torch.save` whose pickle is this one, with a storage of four numbers."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for name, data in (("data.pkl", content), ("byteorder", b"little"), ("version", b"3\n"), ("data/0", bytes(16))):
            archive.writestr(f"a/{name}", data)
    return buffer.getvalue()


def torch_legacy(content: bytes, *, keys: bytes | None = None) -> bytes:
    """The same as torch before 1.6 wrote it."""
    begin = b"".join(pickle.dumps(each, 2) for each in _LEGACY_BEGIN)
    content = content.replace(FOUR + b"tQ", FOUR + b"NtQ")  # no view of the storage
    return begin + content + (pickle.dumps(["0"], 2) if keys is None else keys) + (4).to_bytes(8, "little") + bytes(16)


def tensor(
    *, offset: bytes = b"K\0", size: bytes = TWO + b"\x85", stride: bytes = ONE + b"\x85", numel: bytes = FOUR
) -> bytes:
    """The operations that make a tensor."""
    return (
        b"ctorch._utils\n_rebuild_tensor_v2\n(" + _STORAGE % numel + offset + size + stride
        + b"\x89ccollections\nOrderedDict\n)RtR"
    )  # fmt: skip


def held(value: bytes) -> bytes:
    """A pickle of {"w": value}."""
    return b"\x80\x02}" + _KEY + value + b"s."


def _endless_key(after: bytes = b"K\x01s.") -> bytes:
    return b"\x80\x02}" + b")q\x01" + b"0h\x01h\x01\x86q\x01" * 60 + after


def _copies(kind: bytes, members: bytes) -> bytes:
    """Two thousand dictionaries or sets of one long list."""
    return b"\x80\x02" + kind + b"q\x01](" + members + b"eq\x0200](" + b"h\x01h\x02\x85R" * 2000 + b"e."


_NUMBERS = b"".join(b"J" + number.to_bytes(4, "little") for number in range(60_000))
_PAIRS = b"".join(b"J" + number.to_bytes(4, "little") + b"K\x01\x86" for number in range(60_000))


def _text(text: str, encoding: str) -> bytes:
    raw = text.encode()
    return (
        b"c_codecs\nencode\nX" + len(raw).to_bytes(4, "little") + raw
        + b"X" + len(encoding).to_bytes(4, "little") + encoding.encode() + b"\x86R"
    )  # fmt: skip


def _chinese() -> str:
    return "".join(chr(0x4E00 + number * 7919 % 20_000) for number in range(130_000))


PICKLES: dict[str, tuple[Callable[[], bytes], str]] = {
    "a key of 2^60 tuples, network pickle": (_endless_key, "has a key of more than"),
    "a key of 2^60 tuples": (lambda: torch_zip(_endless_key()), "has a key of more than"),
    "a key of 2^60 tuples, legacy": (lambda: torch_legacy(_endless_key()), "has a key of more than"),
    "such a key behind the content": (
        lambda: torch_legacy(b"\x80\x02}.", keys=_endless_key()),
        "has a key of more than",
    ),
    "such a tuple as a storage's key": (
        lambda: torch_legacy(b"\x80\x02}.", keys=b"\x80\x02])q\x01" + b"0h\x01h\x01\x86q\x01" * 60 + b"a."),
        "keys of its storages are no texts",
    ),
    "a key so deep that hashing ends the interpreter": (
        lambda: b"\x80\x04})" + b"\x85" * 200_000 + b"K\x01s.",
        "has a key of more than",
    ),
    "a set of 2^60 tuples": (
        lambda: b"\x80\x04cbuiltins\nset\n])q\x01" + b"0h\x01h\x01\x86q\x01" * 60 + b"a\x85R.",
        "a set of tuples",
    ),
    "sets of one list": (lambda: _copies(b"cbuiltins\nset\n", _NUMBERS), "copies more than"),
    "dictionaries of one list": (
        lambda: torch_zip(_copies(b"ccollections\nOrderedDict\n", _PAIRS)),
        "copies more than",
    ),
    "a dictionary whose methods are other things": (
        lambda: torch_zip(b"\x80\x02ccollections\nOrderedDict\n)R}X\x05\0\0\0itemsK\x01sb."),
        "gives a dictionary attributes",
    ),
    "a list that holds itself": (lambda: b"\x80\x04]q\x01(h\x01h\x01e.", "expected a dictionary"),
    "a dictionary that holds itself": (lambda: torch_zip(b"\x80\x02}q\x01" + _KEY + b"h\x01s."), "no state dict"),
    "lists 200,000 deep": (lambda: b"\x80\x04" + b"]" * 200_001 + b"a" * 200_000 + b".", "expected a dictionary"),
    "an object for every byte": (lambda: torch_zip(b"\x80\x02](" + b"}" * 600_000 + b"e."), "more than 524288 objects"),
    "a memo with gaps": (lambda: b"\x80\x04}r\xff\xff\xff\x7f.", "keeps an object under the number"),
    "a text in punycode": (lambda: torch_zip(held(_text(_chinese(), "punycode"))), "encodes a text in a way"),
    "a parameter of nothing": (
        lambda: torch_zip(held(b"ctorch._utils\n_rebuild_parameter\n)R")),
        "parameter has no tensor",
    ),
    "a tensor of nothing": (lambda: torch_zip(held(b"ctorch._utils\n_rebuild_tensor_v2\n)R")), "tensor has no storage"),
    "a storage that is called": (
        lambda: torch_zip(held(b"ctorch.storage\nUntypedStorage\nJ\0\0\0\x60\x85R")),
        "calls torch.storage.UntypedStorage",
    ),
    "a tensor moved to another place": (
        lambda: torch_zip(held(tensor() + b"(" + _STORAGE % FOUR + b"K\0J\0\0\0\x20\x85K\x01\x85tb")),
        "a state",
    ),
    "a size of texts": (lambda: torch_zip(held(b"ctorch\nSize\nX\x01\0\0\0x\x85R")), "size that is no list of counts"),
    "a float as length": (lambda: torch_zip(held(tensor(size=_FLOAT + b"\x85"))), "must be counts"),
    "a float as offset": (lambda: torch_zip(held(tensor(offset=_FLOAT))), "must be counts"),
    "true as length": (lambda: torch_zip(held(tensor(size=b"\x88\x85"))), "must be counts"),
    "an offset below 0": (lambda: torch_zip(held(tensor(offset=b"J\xff\xff\xff\xff"))), "must be counts"),
    "a float as number of values": (lambda: torch_zip(held(tensor(numel=_FLOAT))), "describes a storage in a way"),
    "strides of 0 beyond the values": (
        lambda: torch_zip(held(tensor(size=b"J\0\0\0\x7f\x85", stride=b"K\0\x85"))),
        "larger than its 4 values",
    ),
}
"""Pickles, and what the message says."""


def archive(*, method: int = zipfile.ZIP_STORED, encrypted: bool = False, damaged: bool = False) -> bytes:
    """An `.npz` file with one array."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", method) as file:
        array = io.BytesIO()
        np.save(array, np.arange(1000.0))
        file.writestr("w.npy", array.getvalue())
    raw = bytearray(buffer.getvalue())
    if encrypted:
        raw[6] |= 1
        raw[raw.index(b"PK\x01\x02") + 8] |= 1
    if damaged:
        raw[2000] ^= 1
    return bytes(raw)


def _much() -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as file, file.open("w.npy", "w") as member:
        np.lib.format.write_array_header_1_0(member, {"descr": "<f4", "fortran_order": False, "shape": (64 << 20,)})
        for _ in range(256):
            member.write(bytes(1 << 20))
    return buffer.getvalue()


ARCHIVES: dict[str, tuple[Callable[[], bytes], str]] = {
    "encrypted": (lambda: archive(encrypted=True), "'w.npy' is encrypted"),
    "another method": (lambda: archive(method=zipfile.ZIP_BZIP2), "packed by method 12"),
    "a wrong checksum": (lambda: archive(damaged=True), "Bad CRC-32"),
    "much of nothing": (_much, "would unpack to"),
}
"""Archives of arrays, and what the message says."""


@functools.cache
def files() -> tuple[bytes, ...]:
    """All of them."""
    return tuple(make() for make, _ in (*PICKLES.values(), *ARCHIVES.values()))


def any_of_them(random: Random, _: bytes) -> bytes:
    """One of them as it is, or damaged besides."""
    content = random.choice(files())
    return content if random.random() < 0.5 else damaged(random, content)
