"""Damaged and hostile versions of a file, each a function of a random generator."""

from __future__ import annotations

import copy
import hashlib
import json
import os
from collections.abc import Callable
from pathlib import Path
from random import Random
from typing import Any

Mutator = Callable[[Random, bytes], bytes]

NUMBERS = (0, 1, 0x7F, 0xFF, 0xFFFF, 2**31 - 1, 2**31, 2**32 - 1, 2**40, 2**63 - 1, 2**63, 2**64 - 1)
VALUES: tuple[Any, ...] = (
    None, True, False, -1, 0, 1, 3, 1.5, -0.5, 1e308, 2**31, 2**40, 2**53, 2**63, 2**80, 10**30, "", "x", "nan", "../x",
    "/etc/hostname", "a\0b", "a" * 300, "\ud800", "é",
    "framework.networks.dcgan.Generator", "F8_E4M3", [], [[]], {}, [0],
    [2**40, 2**40], ["a"], {"a": 1}, {"": None}, [1, "a", None], {"value": "x", "protocol": 3},
)  # fmt: skip


def damaged(random: Random, data: bytes) -> bytes:
    """One to four changes of bytes, as disks, networks and editors make them."""
    content = bytearray(data)
    for _ in range(random.choice((1, 1, 1, 2, 4))):
        content = random.choice(_CHANGES)(random, content)
    return bytes(content)


def _flip(random: Random, data: bytearray) -> bytearray:
    if data:
        data[random.randrange(len(data))] ^= 1 << random.randrange(8)
    return data


def _byte(random: Random, data: bytearray) -> bytearray:
    if data:
        data[random.randrange(len(data))] = random.randrange(256)
    return data


def _cut(random: Random, data: bytearray) -> bytearray:
    return data[: random.randrange(len(data) + 1)]


def _remove(random: Random, data: bytearray) -> bytearray:
    start = random.randrange(len(data) + 1)
    del data[start : start + random.choice((1, 2, 8, 64, 1000))]
    return data


def _repeat(random: Random, data: bytearray) -> bytearray:
    start = random.randrange(len(data) + 1)
    part = data[start : start + random.choice((1, 4, 32, 500))]
    return data[:start] + part * random.choice((1, 2, 16)) + data[start:]


def _insert(random: Random, data: bytearray) -> bytearray:
    start = random.randrange(len(data) + 1)
    return data[:start] + random.randbytes(random.choice((1, 2, 4, 8, 64))) + data[start:]


def _number(random: Random, data: bytearray) -> bytearray:
    """A size or a count becomes another one, in binary."""
    width = random.choice((1, 2, 4, 8))
    raw = (random.choice(NUMBERS) & ((1 << 8 * width) - 1)).to_bytes(width, random.choice(("little", "big")))
    start = random.randrange(len(data) + 1)
    data[start : start + width] = raw
    return data


def _digits(random: Random, data: bytearray) -> bytearray:
    """A number in text becomes another one."""
    places = [i for i, byte in enumerate(data) if 48 <= byte <= 57]
    if not places:
        return data
    start = stop = random.choice(places)
    while stop < len(data) and 48 <= data[stop] <= 57:
        stop += 1
    other = random.choice((b"-1", b"0", b"1e999", b"NaN", b"1.5", b"9" * 5000, *(str(n).encode() for n in NUMBERS)))
    return data[:start] + other + data[stop:]


_CHANGES = (_flip, _byte, _cut, _remove, _repeat, _insert, _number, _digits)


def json_edited(random: Random, data: bytes) -> bytes:
    """JSON of another shape: values and keys replaced, removed and added, and now and then nested without end."""
    content = json.loads(data)
    for _ in range(random.choice((1, 1, 2, 3))):
        content = _edited(random, content)
    return _nested(random, json.dumps(content))


def json_lines_edited(random: Random, data: bytes) -> bytes:
    """The same in one line of a journal; lines may be swapped, lost and repeated."""
    lines = data.splitlines()
    place = random.randrange(len(lines))
    what = random.randrange(6)
    if what == 0:
        lines[place] = damaged(random, lines[place])
    elif what == 1:
        lines[place], lines[0] = lines[0], lines[place]
    elif what == 2:
        del lines[place]
    else:
        lines[place] = json_edited(random, lines[place])
    return b"\n".join(lines) + b"\n"


def signed(data: bytes) -> bytes:
    """A manifest with the digest of its present content: whoever edits it can sign it."""
    try:
        content = json.loads(data)
        body = {key: value for key, value in content.items() if key != "sha256"}
        canonical = json.dumps(body, sort_keys=True, separators=(",", ":"), allow_nan=False)
    except (ValueError, AttributeError, RecursionError):
        return data
    return json.dumps(body | {"sha256": hashlib.sha256(canonical.encode()).hexdigest()}).encode()


def json_signed(random: Random, data: bytes) -> bytes:
    """An edited manifest, signed anew."""
    return signed(json_edited(random, data))


def resigned_document(folder: Path, name: str) -> None:
    """Write the size and digest of a document into its checkpoint's manifest, and sign that."""
    content, manifest = (folder / name).read_bytes(), folder / "manifest.json"
    told = json.loads(manifest.read_bytes())
    told["files"][name] = {"bytes": len(content), "sha256": hashlib.sha256(content).hexdigest()}
    manifest.write_bytes(signed(json.dumps(told).encode()))


def special(random: Random, path: Path) -> None:
    """Something that is no ordinary file, or an endless one."""
    path.unlink()
    what = random.randrange(5)
    if what == 0:
        os.mkfifo(path)
    elif what == 1:
        path.mkdir()
    elif what == 2:
        path.symlink_to("/dev/zero")
    elif what == 3:
        path.touch()
    else:
        with path.open("wb") as file:
            file.truncate(1 << 40)


def _places(content: Any, found: list[tuple[Any, Any]]) -> list[tuple[Any, Any]]:
    pairs = content.items() if isinstance(content, dict) else enumerate(content) if isinstance(content, list) else ()
    for key, value in pairs:
        found.append((content, key))
        _places(value, found)
    return found


def _edited(random: Random, content: Any) -> Any:
    places = _places(content, [])
    if not places or random.random() < 0.02:
        return copy.deepcopy(random.choice(VALUES))
    # Many tensors have few fields each, and the head has the rest: choose by level, then by place.
    holder, key = random.choice(places[:12] if random.random() < 0.3 else places)
    what = random.randrange(8)
    if what == 0:
        del holder[key]
    elif what == 1 and isinstance(holder, dict):
        holder[random.choice(("x", "", "a\0b", "../x", "\ud800", str(key) + "2"))] = holder.pop(key)
    elif what == 2:
        other, there = random.choice(places)
        holder[key] = (
            copy.deepcopy(other[there]) if there in other or (isinstance(other, list) and there < len(other)) else 0
        )
    else:
        holder[key] = copy.deepcopy(random.choice(VALUES))
    return content


def _nested(random: Random, text: str) -> bytes:
    """Rarely, 100,000 brackets, NaN or an endless number in place of some value."""
    chance = random.random()
    if chance < 0.05:
        depth = random.choice((70, 900, 1100, 100_000))
        odd = random.choice(
            ("[" * depth + "]" * depth, '{"a":' * depth + "1" + "}" * depth, "NaN", "1e999", "9" * 5000)
        )
        places = [i for i, letter in enumerate(text) if letter == ":"]
        place = random.choice(places) if places else 0
        end = min((i for i in (text.find(",", place), text.find("}", place)) if i > 0), default=len(text))
        text = text[: place + 1] + odd + text[end:] if places else odd
    return text.encode("utf-8", "surrogatepass")
