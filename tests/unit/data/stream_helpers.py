"""Small data sets and a faulty HTTP server for the tests of the stream."""

from __future__ import annotations

import collections
import contextlib
import functools
import http.server
import io
import os
import tarfile
import threading
import time
import urllib.parse
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import simplejpeg
from PIL import Image

from framework.data.index import index_shard, write_index
from framework.data.manifest import Manifest, ShardEntry, file_sha256, save_manifest

CLASSES = 5


def picture(number: int, side: int = 32, channels: int = 3) -> np.ndarray:
    """A smooth picture (H, W, C) that differs from every other number's."""
    rng = np.random.default_rng(number)
    coarse = Image.fromarray(rng.integers(0, 256, (4, 4, 3), np.uint8)).resize((side, side), Image.Resampling.BICUBIC)
    return np.asarray(coarse)[:, :, :channels]


def encode(pixels: np.ndarray, encoding: str) -> bytes:
    if encoding == "jpg":
        colours = "RGB" if pixels.shape[2] == 3 else "GRAY"
        return simplejpeg.encode_jpeg(np.ascontiguousarray(pixels), quality=92, colorspace=colours)
    buffer = io.BytesIO()
    image = Image.fromarray(pixels.squeeze())
    image.save(buffer, "PNG") if encoding == "png" else image.save(buffer, "WEBP", lossless=True)
    return buffer.getvalue()


@functools.lru_cache(4096)
def encoded(number: int, side: int, channels: int, encoding: str) -> bytes:
    return encode(picture(number, side, channels), encoding)


def write_tar(path: Path, members: list[tuple[str, bytes]]) -> Path:
    with tarfile.open(path, "w", format=tarfile.USTAR_FORMAT) as tar:
        for name, data in members:
            info = tarfile.TarInfo(name)
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))
    return path


def make_set(
    folder: Path,
    *,
    sizes: tuple[int, ...] = (20, 17, 23, 20),
    side: int = 32,
    channels: int = 3,
    encoding: str = "png",
    classes: int = CLASSES,
    manifest: bool = True,
    first: int = 0,
) -> Path:
    """A data set of sum(sizes) pictures; sample number n has key %09d, label n % classes and `picture(n)`."""
    folder.mkdir(parents=True, exist_ok=True)
    entries, number = [], first
    for shard, size in enumerate(sizes):
        members: list[tuple[str, bytes]] = []
        for _ in range(size):
            if classes:
                members.append((f"{number:09d}.cls", str(number % classes).encode()))
            members.append((f"{number:09d}.{encoding}", encoded(number, side, channels, encoding)))
            number += 1
        path = write_tar(folder / f"train-{shard:06d}.tar", members)
        if manifest:
            write_index(path.with_suffix(".idx"), index_shard(path))
        entries.append(ShardEntry(name=path.name, count=size, bytes=path.stat().st_size, sha256=file_sha256(path)))
    if manifest:
        labels = [n % classes for n in range(first, number)] if classes else []
        save_manifest(
            Manifest(
                name="test",
                split="train",
                resolution=side,
                channels=channels,
                classes=classes,
                class_names=tuple(f"class {label}" for label in range(classes)),
                label_counts=tuple(labels.count(label) for label in range(classes)),
                encoding=encoding,
                shards=tuple(entries),
            ),
            folder,
        )
    return folder


def truncate(path: Path) -> None:
    os.truncate(path, path.stat().st_size * 6 // 10)


def _members(path: Path, suffix: str) -> list[tarfile.TarInfo]:
    with tarfile.open(path) as tar:
        return [info for info in tar if info.name.endswith(suffix)]


def overwrite(path: Path, offset: int, data: bytes) -> None:
    with open(path, "r+b") as file:
        file.seek(offset)
        file.write(data)


def destroy_header(path: Path, number: int = 5) -> str:
    """Replace the header of a picture by noise; returns the sample's key."""
    info = _members(path, "png")[number]
    overwrite(path, info.offset, np.random.default_rng(0).bytes(512))
    return info.name.partition(".")[0]


def destroy_picture(path: Path, number: int = 5) -> str:
    """Replace the payload of a picture by noise; returns the sample's key."""
    info = _members(path, "png")[number]
    overwrite(path, info.offset_data, np.random.default_rng(0).bytes(info.size))
    return info.name.partition(".")[0]


def set_label(path: Path, label: bytes, number: int = 5) -> str:
    """Overwrite the one-byte label of a sample; returns its key."""
    info = _members(path, "cls")[number]
    assert info.size == len(label) == 1
    overwrite(path, info.offset_data, label)
    return info.name.partition(".")[0]


class FaultyServer(http.server.ThreadingHTTPServer):
    """Serves `root` on 127.0.0.1. The first part of a path is the behaviour:

    ok        ranges supported            plain     no ranges
    gone      404                         denied    403
    flaky     503 twice, then ok          broken    503 always
    cut       half of what is left, then the connection ends (ranges supported)
    cutplain  half, then the connection ends, once per file; no ranges
    stall     half, then silence          silent    no answer at all
    drip      one byte a time, for ever   wrong     a byte altered    long  a byte too many
    slow      20 MB/s
    """

    daemon_threads = True

    def __init__(self, root: Path) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.root, self.closing = root, threading.Event()
        self.requests: list[tuple[str, str | None]] = []
        self.seen: collections.Counter[str] = collections.Counter()
        self.sent_bytes = 0

    def url(self, behaviour: str, path: str = "") -> str:
        return f"http://127.0.0.1:{self.server_address[1]}/{behaviour}/{path}"

    def fetched(self, suffix: str = ".tar") -> list[str]:
        return [path for path, _ in self.requests if path.endswith(suffix)]

    def handle_error(self, request: object, client_address: object) -> None:
        """Clients that leave early are part of the tests."""


class _Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: FaultyServer

    def log_message(self, format: str, *args: object) -> None:
        """Quiet."""

    def do_GET(self) -> None:
        server = self.server
        path = urllib.parse.unquote(self.path)
        behaviour, _, name = path[1:].partition("/")
        requested = self.headers.get("Range")
        server.requests.append((path, requested))
        server.seen[path] += 1
        file = server.root / name
        status = {"gone": 404, "denied": 403, "broken": 503}.get(behaviour)
        if behaviour == "flaky" and server.seen[path] <= 2:
            status = 503
        if status or not file.is_file():
            return self._answer(status or 404, b"<html>error page</html>")
        if behaviour == "silent":
            server.closing.wait(60)
            return None
        data = file.read_bytes()
        if behaviour == "wrong" and name.endswith(".tar"):
            data = data[:1000] + bytes([data[1000] ^ 1]) + data[1001:]
        if behaviour == "long" and name.endswith(".tar"):
            data += b"\0"
        if name.endswith(".tar"):
            return self._send_shard(behaviour, data, requested, first=server.seen[path] == 1)
        return self._answer(200, data)

    def _answer(self, status: int, body: bytes, **headers: str) -> None:
        self.send_response(status)
        for key, value in headers.items():
            self.send_header(key.replace("_", "-"), value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self._write(body)

    def _send_shard(self, behaviour: str, data: bytes, requested: str | None, *, first: bool) -> None:
        begin = 0
        ranged = behaviour in ("ok", "cut", "stall", "slow")
        if ranged and requested:
            begin = int(requested.removeprefix("bytes=").rstrip("-"))
            self.send_response(206)
            self.send_header("Content-Range", f"bytes {begin}-{len(data) - 1}/{len(data)}")
        else:
            self.send_response(200)
        if ranged:
            self.send_header("ETag", f'"{len(data)}"')
        rest = data[begin:]
        self.send_header("Content-Length", str(len(rest)))
        self.end_headers()
        if behaviour == "drip":
            for byte in rest:
                self._write(bytes([byte]))
                if self.server.closing.wait(0.02):
                    return
        elif behaviour == "slow":
            for at in range(0, len(rest), 1 << 16):
                self._write(rest[at : at + (1 << 16)])
                time.sleep(0.003)
        elif behaviour in ("cut", "stall") or (behaviour == "cutplain" and first):
            keep = len(rest) // 2 if len(rest) > 8192 or behaviour == "stall" else len(rest)
            self._write(rest[:keep])
            if behaviour == "stall":
                self.server.closing.wait(60)
            self.close_connection = True
        else:
            self._write(rest)

    def _write(self, data: bytes) -> None:
        self.wfile.write(data)
        self.wfile.flush()
        self.server.sent_bytes += len(data)


@contextlib.contextmanager
def serve(root: Path) -> Iterator[FaultyServer]:
    server = FaultyServer(root)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    thread.start()
    try:
        yield server
    finally:
        server.closing.set()
        server.shutdown()
        server.server_close()
        thread.join()
