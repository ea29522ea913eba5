"""Files with an inner structure, made and edited so that readers get past the first check: checksums fit again."""

from __future__ import annotations

import gzip
import io
import struct
import tarfile
import zipfile
import zlib
from random import Random

import numpy as np

BLOCK = 512
_SIZES = (
    b"\xff" * 10 + b"\xfe\x00",  # -512 in base 256
    b"\x80" + b"\0" * 3 + (2**40).to_bytes(8, "big"),
    b"\x80" + b"\xff" * 11,
    b"77777777777\0",
    b"00000000000\0",
    b"00000002000\0",
    b"9\0" * 6,
    b"-1".ljust(12, b"\0"),
    b" " * 12,
)
_FIELDS = ((0, 100), (100, 8), (124, 12), (156, 1), (257, 8), (345, 155))
"""Name, mode, size, type, magic and prefix: where they begin, and their lengths."""
_RECORDS = (b"size=%d" % 2**60, b"size=-5", b"path=../../x.png", b"path=a b.png", b"path=\xff.png", b"path=",
            b"GNU.sparse.major=1\n30 GNU.sparse.minor=0", b"GNU.sparse.map=" + b"1," * 400, b"hdrcharset=BINARY",
            b"size=" + b"9" * 4400, b"GNU.sparse.size=1")  # fmt: skip


def tar(members: list[tuple[str, bytes]], *, kind: int = tarfile.USTAR_FORMAT, long_names: bool = False) -> bytes:
    """A tar of these members; long names need headers of their own."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=kind) as archive:
        for name, content in members:
            info = tarfile.TarInfo("d" * 120 + name if long_names else name)
            info.size = len(content)
            if kind == tarfile.PAX_FORMAT:
                info.pax_headers = {"comment": "x"}
            archive.addfile(info, io.BytesIO(content))
    return buffer.getvalue()


def tar_edited(random: Random, data: bytes) -> bytes:
    """A header of a tar says something else, and its checksum agrees; or headers are repeated, swapped and chained."""
    content = bytearray(data)
    places = [at for at in range(0, len(content) - BLOCK, BLOCK) if content[at + 257 : at + 262] == b"ustar"]
    if not places:
        return data
    at = random.choice(places)
    what = random.randrange(8)
    if what == 0:
        return bytes(content[:at] + content[at : at + BLOCK] * random.choice((2, 3, 4000)) + content[at:])
    if what == 1:
        other = random.choice(places)
        content[at : at + BLOCK] = content[other : other + BLOCK]
        return bytes(content)
    if what == 2:  # extended headers before this one, perhaps without end
        record = random.choice(_RECORDS)
        length = len(record) + 2
        length += len(str(length + len(str(length))))
        body = b"%d %s\n" % (length, record)
        extended = _header(content[at : at + BLOCK], kind=random.choice(b"xgXLKS"), size=b"%011o\0" % len(body))
        chain = (extended + body.ljust(-(-len(body) // BLOCK) * BLOCK, b"\0")) * random.choice((1, 1, 2, 1500))
        return bytes(content[:at] + chain + content[at:])
    start, length = random.choice(_FIELDS)
    if what in (3, 4):
        content[at + 124 : at + 136] = random.choice(_SIZES)
    elif what == 5:
        content[at + 156] = random.choice(b"\x000123456789xgXLKSDMNV")
    else:
        content[at + start : at + start + length] = random.randbytes(length)
    content[at : at + BLOCK] = _summed(content[at : at + BLOCK])
    return bytes(content)


def _header(block: bytes, *, kind: int, size: bytes) -> bytes:
    changed = bytearray(block)
    changed[124:136], changed[156] = size, kind
    return _summed(changed)


def _summed(block: bytes) -> bytes:
    changed = bytearray(block)
    changed[148:156] = b" " * 8
    changed[148:156] = b"%06o\0 " % sum(changed)
    return bytes(changed)


def index_edited(random: Random, data: bytes) -> bytes:
    """A word of a `.idx` becomes another; lines are swapped, lost, repeated, and the head may count along."""
    lines = data.split(b"\n")
    place = random.randrange(1, max(2, len(lines) - 1))
    what = random.randrange(5)
    if what == 0:
        lines[place : place + 1] = [lines[place]] * random.choice((0, 2, 1000))
    elif what == 1:
        lines[place], lines[1] = lines[1], lines[place]
    elif what == 2:
        lines[place] = b" ".join(b"x %d 1 a.x" % random.choice((0, 512, 2**63, 10**30)) for _ in range(2000))
    else:
        words = lines[place].split(b" ")
        words[random.randrange(len(words))] = random.choice(
            (
                b"",
                b"-1",
                b"0",
                b"1_0",
                b"9" * 18,
                b"9" * 5000,
                b"%d" % 2**40,
                b"%d" % 2**63,
                b"\xc2\xb2",
                b"pkl",
                b"a" * 10**6,
            )
        )
        lines[place] = b" ".join(words)
    if random.random() < 0.5:
        lines[0] = b"v1.2 %d" % (len(lines) - 2)
    return b"\n".join(lines)


def png_edited(random: Random, data: bytes) -> bytes:
    """A PNG of another size or kind, its checksum right: flat, so that few bytes are enough for any size."""
    side = random.choice((0, 1, 16, 17, 1000, 4096, 8192, 20_000, 2**31 - 1))
    depth, kind = random.choice(((8, 0), (8, 2), (8, 6), (16, 0), (16, 2), (1, 0), (8, 3), (3, 9)))
    channels = {2: 3, 6: 4}.get(kind, 1)
    row = 1 + -(-side * channels * depth // 8)
    packer = zlib.compressobj(1)
    rows = b"".join(packer.compress(bytes(row)) for _ in range(side)) if side * row < 1 << 26 else b""
    size = struct.pack(">IIBBBBB", side, side, depth, kind, 0, 0, random.choice((0, 0, 0, 1)))
    parts = [(b"IHDR", size), (b"PLTE", bytes(6)), (b"IDAT", rows + packer.flush()), (b"IEND", b"")]
    return b"\x89PNG\r\n\x1a\n" + b"".join(_chunk(name, body) for name, body in parts if name != b"PLTE" or kind == 3)


def _chunk(name: bytes, body: bytes) -> bytes:
    return struct.pack(">I", len(body)) + name + body + struct.pack(">I", zlib.crc32(name + body))


def jpeg_edited(random: Random, data: bytes) -> bytes:
    """A JPEG whose header tells another size, or that repeats a scan without end; others are only cut."""
    content = bytearray(data)
    heads = [at for at in range(len(content) - 9) if content[at] == 0xFF and content[at + 1] in (0xC0, 0xC2)]
    if not content.startswith(b"\xff\xd8\xff") or not heads:
        return bytes(content[: random.randrange(len(content) + 1)])
    if random.random() < 0.5:
        side = random.choice((0, 1, 16, 4096, 8192, 65_500))
        content[heads[0] + 5 : heads[0] + 9] = side.to_bytes(2, "big") * 2
        return bytes(content)
    start = content.find(b"\xff\xda")
    stop = content.find(b"\xff", start + 14)
    stop = stop if stop > 0 else len(content)
    return bytes(content[:start] + content[start:stop] * random.choice((2, 50, 5000)) + content[start:])


def idx(values: np.ndarray, *, zipped: bool) -> bytes:
    """An idx file of uint8 values."""
    raw = b"\0\0\x08" + bytes([values.ndim]) + struct.pack(f">{values.ndim}I", *values.shape) + values.tobytes()
    return gzip.compress(raw, mtime=0) if zipped else raw


def table_edited(random: Random, data: bytes) -> bytes:
    """A table of which cells, lines and line ends are others."""
    lines = [line.split(b",") for line in data.splitlines()]
    for _ in range(random.choice((1, 1, 2, 3))):
        line = random.choice(lines)
        what = random.randrange(7)
        if what == 0:
            line[random.randrange(len(line))] = random.choice(_CELLS)
        elif what == 1:
            line.insert(random.randrange(len(line) + 1), random.choice(_CELLS))
        elif what == 2 and len(line) > 1:
            del line[random.randrange(len(line))]
        elif what == 3:
            lines.insert(random.randrange(len(lines) + 1), [random.choice((b"", b" ", b"x", b"\xff"))])
        elif what == 4:
            line += [b"1"] * random.choice((1, 1000, 70_000, 1_200_000))
        elif what == 5 and sum(len(cell) for cells in lines for cell in cells) < 10_000:
            lines = [[*line] for line in lines * random.choice((2, 100))]
        else:
            random.shuffle(lines)
    end = random.choice((b"\n", b"\n", b"\r\n", b"\r", b""))
    return random.choice((b"", b"", b"\xef\xbb\xbf", b"\xff\xfe")) + end.join(b",".join(line) for line in lines)


_CELLS = (b"", b" ", b"nan", b"-inf", b"1e999", b"1e39", b"-1e-999", b"9" * 400, b"9" * 1_000_000,
          b"9" * 100_000 + b"x", b"1_0", b"0x1p3",
          b'"1"', b'"', b"\xc3\xa9", b"\xd9\xa1", b"\0", b"1;2", b"1\t2", b"-1", b"3", b"999999", b"1000000", b"+",
          b".", b"1.", b"e5", b"a" * 101)  # fmt: skip


def idx_edited(random: Random, data: bytes) -> bytes:
    """An idx file whose head says something else, or that unpacks to far more than it has."""
    zipped = data[:2] == b"\x1f\x8b"
    raw = bytearray(gzip.decompress(data) if zipped else data)
    axes = raw[3]
    what = random.randrange(4)
    if what == 0:
        raw[3] = random.choice((0, 1, 2, 4, 5, 200, 255))
    elif what == 1:
        raw += bytes(random.choice((1, 5000, 1 << 22)))
    else:
        place = 4 + 4 * random.randrange(axes)
        raw[place : place + 4] = random.choice((0, 1, 7, 2**24, 2**31, 2**32 - 1)).to_bytes(4, "big")
    return gzip.compress(bytes(raw), mtime=0) if zipped else bytes(raw)


def zip_edited(data: bytes, name: str, content: bytes) -> bytes:
    """The archive with another content of one member."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(data)) as old, zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as new:
        for member in old.namelist():
            new.writestr(member, content if member == name else old.read(member))
    return buffer.getvalue()
