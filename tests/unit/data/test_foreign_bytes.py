"""Data sets that others wrote or serve: a named error within bounds, whatever they say."""

import contextlib
import json
import os
import socket
import struct
import tarfile
import threading
import time
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest

from framework.data.decode import PictureDecoder
from framework.data.errors import DataError, ManifestError, ShardError
from framework.data.fetch import FetchOptions, fetch_bytes
from framework.data.http import answered, request_for
from framework.data.index import index_shard, parse_index, read_index
from framework.data.manifest import load_manifest
from framework.data.readers import BadImageError, SourceError, open_source
from framework.data.stream import open_stream
from tests.fuzz.containers import idx, tar
from tests.unit.data.stream_helpers import encoded, make_set

ONCE = FetchOptions(stall_seconds=5, deadline_seconds=2, retries=0, backoff_seconds=0)
PNG = encoded(0, 16, 3, "png")


def test_a_chain_of_headers_and_names_that_are_no_text(tmp_path: Path) -> None:
    path = tmp_path / "a.tar"
    body = b"12 comment=x\n".ljust(512, b"\0")
    info = tarfile.TarInfo("x")
    info.type, info.size = b"x", 13
    path.write_bytes((info.tobuf(tarfile.USTAR_FORMAT) + body) * 900 + tar([("a.png", PNG)]))
    with pytest.raises(ShardError, match=r"a\.tar: damaged tar after 0 samples"):
        index_shard(path)
    path.write_bytes((info.tobuf(tarfile.USTAR_FORMAT) + body) * 40 + tar([("a.png", PNG)]))
    with pytest.raises(ShardError, match="a member has too many headers"):
        index_shard(path)
    path.write_bytes(tar([("a\udcff.png", PNG)]))
    with pytest.raises(ShardError, match=r"is no text in UTF-8"):
        index_shard(path)


def test_a_member_of_a_zip_without_a_name(tmp_path: Path) -> None:
    """Up to Python 3.11 zipfile itself fails when it is asked whether such a member is a folder."""
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        archive.writestr("bbbb", b"nothing")
        archive.writestr("a.png", PNG)
    path = tmp_path / "a.zip"
    path.write_bytes(path.read_bytes().replace(b"bbbb", b"\0bbb"))
    source = open_source(path)
    assert len(source.names) == 1
    source.close()


def test_only_regular_files_are_opened(tmp_path: Path) -> None:
    folder = make_set(tmp_path / "a", sizes=(2,), side=16)
    for name in ("train-000000.tar", "train-000000.idx", "manifest.json"):
        kept = (folder / name).read_bytes()
        (folder / name).unlink()
        os.mkfifo(folder / name)
        with pytest.raises(DataError, match="is not a regular file"):  # noqa: SIM117
            with open_stream(folder, resolution=16, workers=0).batches(0, batch_size=1, stop=1) as batches:
                next(batches)
        (folder / name).unlink()
        (folder / name).write_bytes(kept)
    os.mkfifo(tmp_path / "b.zip")
    with pytest.raises(SourceError, match="is not a regular file"):
        open_source(tmp_path / "b.zip")


def test_an_index_of_long_words_or_short_lines(tmp_path: Path) -> None:
    lines = "".join(f"cls {512 * n} 1 {n}.cls\n" for n in range(1, 1000))
    with pytest.raises(ManifestError, match="must be numbers of bytes"):
        parse_index(f"v1.2 1000\ncls {'0' * 100_000}512 1 a.cls\n{lines}", origin="x").check_order(num_bytes=1 << 20)
    with pytest.raises(ManifestError, match="its lines are too short"):
        parse_index("v1.2 9999\n" + "\n" * 9999, origin="x")
    with (tmp_path / "a.idx").open("wb") as file:
        file.truncate(1 << 40)
    with pytest.raises(ManifestError, match="more than the"):
        read_index(tmp_path / "a.idx")


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("shards", [{"name": "a.tar", "count": 2**60, "bytes": 4096, "sha256": "ab" * 32}]),
        ("resolution", 2**31),
        ("resolutions", ["r"]),
        ("resolutions", {"\u00b2": "r"}),
    ],
)
def test_a_manifest_of_impossible_numbers(tmp_path: Path, field: str, value: object) -> None:
    folder = make_set(tmp_path / "a", sizes=(2,), side=16)
    told = json.loads((folder / "manifest.json").read_text())
    (folder / "manifest.json").write_text(json.dumps(told | {field: value}))
    with pytest.raises(ManifestError, match=r"cannot hold|resolution is|must map a side"):
        load_manifest(folder)
    (folder / "manifest.json").write_text('{"a":' + "[" * 100_000)
    with pytest.raises(ManifestError, match="nested too deeply"):
        load_manifest(folder)


def test_a_list_of_resolutions_that_leads_to_itself(tmp_path: Path) -> None:
    (tmp_path / "manifest.json").write_text('{"format": 1, "resolutions": {"16": "r"}}')
    (tmp_path / "r").symlink_to(".")
    with pytest.raises(ManifestError, match="is one itself"):
        open_stream(tmp_path, resolution=16)


def test_names_longer_than_a_file_system_takes(tmp_path: Path) -> None:
    (tmp_path / "manifest.json").write_text(json.dumps({"format": 1, "resolutions": {"16": "r" * 300}}))
    with pytest.raises(ManifestError, match="the name of a sub-folder"):
        open_stream(tmp_path, resolution=16)
    folder = make_set(tmp_path / "a", sizes=(2,), side=16)
    told = json.loads((folder / "manifest.json").read_text())
    told["shards"][0]["name"] = "s" * 300 + ".tar"
    (folder / "manifest.json").write_text(json.dumps(told))
    with pytest.raises(ManifestError, match="is not a plain file name"):
        load_manifest(folder)


def test_pictures_that_claim_too_much_or_are_none() -> None:
    decoder, out = PictureDecoder(resolution=16, channels=3), np.empty((3, 16, 16), np.uint8)
    jpeg = bytearray(encoded(0, 16, 3, "jpg"))
    at = jpeg.find(b"\xff\xc0")
    jpeg[at + 5 : at + 9] = (8192).to_bytes(2, "big") * 2
    with pytest.raises(ValueError, match="could be a decompression bomb"):
        decoder.decode(bytes(jpeg), out)
    good = encoded(0, 16, 3, "jpg")
    start = good.find(b"\xff\xda")
    with pytest.raises(ValueError, match="more than 100 scans"):
        decoder.decode(good[:start] + good[start : start + 14] * 101 + good[start:], out)
    with pytest.raises(ValueError, match="cannot identify image file as one of") as caught:
        decoder.decode(b"\0" * 100, out)
    assert "BytesIO" not in str(caught.value)


def test_arrays_that_their_file_cannot_hold(tmp_path: Path) -> None:
    name = "train-images-idx3-ubyte"
    (tmp_path / name).write_bytes(b"\0\0\x08\x03" + struct.pack(">3I", 2**31, 2**10, 1) + bytes(64))
    with pytest.raises(SourceError, match="which its bytes cannot hold"):
        open_source(tmp_path / name, labels=False)
    (tmp_path / name).write_bytes(idx(np.zeros((2, 0, 4), np.uint8), zipped=False))
    with pytest.raises(SourceError, match="they need a side"):
        open_source(tmp_path / name, labels=False)


def _zip(path: Path, change: Callable[[bytearray, int], None]) -> Path:
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("a.png", PNG)
    raw = bytearray(path.read_bytes())
    change(raw, raw.find(b"PK\x01\x02"))
    path.write_bytes(raw)
    return path


def _method(raw: bytearray, at: int) -> None:
    raw[at + 10] = raw[8] = 99


def _encrypted(raw: bytearray, at: int) -> None:
    raw[at + 8] |= 1
    raw[6] |= 1


def _checksum(raw: bytearray, at: int) -> None:
    raw[at + 16] ^= 1
    raw[14] ^= 1


@pytest.mark.parametrize(
    ("change", "why"), [(_method, "by method 99"), (_encrypted, "is encrypted"), (_checksum, "Bad CRC-32")]
)
def test_members_of_a_zip_that_cannot_be_read(
    tmp_path: Path, change: Callable[[bytearray, int], None], why: str
) -> None:
    source = open_source(_zip(tmp_path / "a.zip", change))
    with pytest.raises(BadImageError, match=f"cannot be read from the zip.*a.png.*{why}"):
        source.read(0)
    source.close()


@pytest.mark.parametrize(
    "table", ['{"labels": ' + "[" * 100_000, '{"labels": [["a.png", true]]}', '{"labels": {}}', "3"]
)
def test_labels_of_wrong_types(tmp_path: Path, table: str) -> None:
    (tmp_path / "a.png").write_bytes(PNG)
    (tmp_path / "dataset.json").write_text(table)
    with pytest.raises(SourceError, match=r"dataset\.json.*(nested too deeply|expected)"):
        open_source(tmp_path)


def test_a_folder_with_the_name_of_a_picture_is_a_folder(tmp_path: Path) -> None:
    (tmp_path / "x.png").mkdir()
    (tmp_path / "x.png/a.png").write_bytes(PNG)
    for location in (tmp_path, tmp_path / "x.png"):
        assert len(open_source(location, labels=False)) == 1


@contextlib.contextmanager
def _answering(answer: bytes, *, endless: bytes = b"") -> Iterator[str]:
    """A server that says the same to everybody."""
    with socket.create_server(("127.0.0.1", 0)) as server:

        def serve() -> None:
            with contextlib.suppress(OSError):
                while True:
                    connection, _ = server.accept()
                    with connection, contextlib.suppress(OSError):
                        connection.recv(65536)
                        connection.sendall(answer)
                        while endless:
                            connection.sendall(endless)

        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        yield f"http://127.0.0.1:{server.getsockname()[1]}/a"
        server.shutdown(socket.SHUT_RDWR)
    thread.join(5)


OK = b"HTTP/1.1 200 OK\r\n"


@pytest.mark.parametrize(
    ("answer", "endless", "why"),
    [
        (OK + b"Content-Length: abc\r\n\r\nx", b"", "Content-Length that says no number"),
        (OK + b"Content-Length: -5\r\n\r\nx", b"", "Content-Length that says no number"),
        (OK + b"Content-Length: 99999999999\r\n\r\nx", b"", "at most 1000 are read"),
        (OK + b"Content-Length: 9\r\n\r\nx", b"", "connection ended at byte 1 of 9"),
        (OK + b"\r\n", b"x" * 4096, "at most 1000 are read"),
        (b"HTTP/1.1 206 P\r\nContent-Range: bytes \xb2-9/9\r\n\r\nx", b"", "Content-Range that says no number"),
        (b"HTTP/1.1 302 F\r\nLocation: ftp://a/b\r\n\r\n", b"", "server leads to 'ftp://a/b'"),
        (b"HTTP/1.1 302 F\r\nLocation: file:///etc/hostname\r\n\r\n", b"", "is not allowed"),
        (b"HTTP/1.1 302 F\r\nLocation: http://[::1\r\n\r\n", b"", "cannot be understood"),
        (b"HTTP/1.1 302 F\r\nLocation: /b\r\nContent-Length: 99999999999999999\r\n\r\n", b"", "HTTP status 302"),
        (b"", b"HTTP/1.1 100 Continue\r\n\r\n", "not fetched"),
    ],
)
def test_answers_of_a_server(answer: bytes, endless: bytes, why: str) -> None:
    with _answering(answer, endless=endless) as url, pytest.raises(ShardError, match=why):
        fetch_bytes(url, options=ONCE, most_bytes=1000)


def test_an_answer_may_be_longer_than_promised() -> None:
    with _answering(OK + b"Content-Length: 3\r\n\r\nabcdef") as url:
        assert fetch_bytes(url, options=ONCE, most_bytes=1000) == b"abc"


def test_an_answer_that_is_refused_is_closed() -> None:
    """Also while its error is held, and with the error all that urllib knew of it."""
    seen: list[bytes] = []
    with socket.create_server(("127.0.0.1", 0)) as server:

        def serve() -> None:
            connection, _ = server.accept()
            with connection:
                connection.settimeout(5)
                connection.recv(65536)
                connection.sendall(b"HTTP/1.1 302 F\r\nLocation: ftp://a/b\r\n\r\n")
                seen.append(connection.recv(1))

        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        request = request_for(f"http://127.0.0.1:{server.getsockname()[1]}/a")
        with pytest.raises(OSError, match="server leads to") as caught:  # noqa: SIM117
            with answered(request, stall_seconds=5, deadline=time.monotonic() + 60):
                pass
        thread.join(2)
    assert seen == [b""], f"the connection is open beside {caught.value}"
