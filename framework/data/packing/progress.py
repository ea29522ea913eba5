"""What a killed `framework pack` left: its `progress.jsonl`, believed as far as the files beside it bear it out.

The first line names the request, each further one a finished shard (one file per resolution). The folder may be
anybody's, so a line counts only if its fields have their types and its shards and indexes are what it says.
"""

from __future__ import annotations

import logging
import re
import stat
from pathlib import Path
from typing import Any

from framework.data.errors import DataError
from framework.data.index import format_index, index_shard, most_index_bytes
from framework.data.manifest import file_sha256, index_name
from framework.utils.bounded import is_count, parse_json, read_file
from framework.utils.errors import FrameworkError

_LOG = logging.getLogger(__name__)
_MOST_BYTES = 64 << 20  # lines of the 150,000 shards that a manifest can name
_FILE = re.compile(r"(r[0-9]{3,5}/)?[\w-]+\.(tar|idx)")
_ENTRY = {"name": str, "count": int, "bytes": int, "sha256": str}


def read_progress(path: Path, *, request: str) -> list[dict[str, Any]]:
    """The lines of the finished shards; none for another request, or where a line is not borne out by the files.

    Args:
        path: of `progress.jsonl`; the shards are below its folder.
        request: what the first line must name.
    """
    try:
        head, *lines = read_file(path, most_bytes=_MOST_BYTES, error=DataError).split(b"\n")
        if parse_json(head, source=path, error=DataError) != {"request": request}:
            return []
        # Behind the last line end is nothing, or a line that was cut.
        entries = [parse_json(line, source=path, error=DataError) for line in lines[:-1]]
        for number, entry in enumerate(entries):
            _check_line(entry, path.parent, where=f"{path}, shard {number}")
    except FileNotFoundError:
        return []
    except (FrameworkError, OSError) as error:
        _LOG.warning("what an earlier run left cannot be continued, all shards are made anew: %s", error)
        return []
    return entries


def _check_line(line: Any, folder: Path, *, where: str) -> None:
    """Raise DataError, or the OSError of a file that is not there, for a line that cannot be believed."""
    if not isinstance(line, dict):
        raise DataError(f"{where}: is no JSON object")
    files, shards, bad = line.get("files"), line.get("shards"), line.get("bad")
    label_counts, animated = line.get("label_counts"), line.get("animated", 0)
    ok = isinstance(files, dict) and all(_FILE.fullmatch(name) and is_count(size) for name, size in files.items())
    ok = ok and isinstance(shards, list) and all(map(_is_entry, shards))
    ok = ok and isinstance(bad, list) and all(map(_is_pair, bad))
    ok = ok and isinstance(label_counts, list) and all(map(is_count, label_counts))
    if not (ok and is_count(animated) and is_count(line.get("position"))):
        raise DataError(f"{where}: a field is missing or of another type")
    assert isinstance(files, dict)
    assert isinstance(shards, list)
    tars = [name for name in files if name.endswith(".tar")]
    if list(files) != [name for tar in tars for name in (tar, index_name(tar))] or len(tars) != len(shards):
        raise DataError(f"{where}: its files are not a shard and an index for each entry")
    for tar, entry in zip(tars, shards, strict=True):
        _check_shard(folder / tar, folder / index_name(tar), entry, sizes=(files[tar], files[index_name(tar)]))


def _is_entry(entry: Any) -> bool:
    return (
        isinstance(entry, dict)
        and entry.keys() == _ENTRY.keys()
        and all(type(entry[name]) is kind for name, kind in _ENTRY.items())
    )


def _is_pair(pair: Any) -> bool:
    return isinstance(pair, list) and len(pair) == 2 and all(isinstance(text, str) for text in pair)


def _check_shard(tar: Path, index: Path, entry: dict[str, Any], *, sizes: tuple[int, int]) -> None:
    """Raise DataError unless both files stand in the folder itself, whole, and are what the entry says."""
    for file, size in zip((tar, index), sizes, strict=True):
        status = file.lstat()
        if not stat.S_ISREG(status.st_mode) or not stat.S_ISDIR(file.parent.lstat().st_mode):
            raise DataError(f"{file}: is a link, or no regular file")
        if status.st_size != size:
            raise DataError(f"{file}: has {status.st_size} bytes, was written with {size}")
    said = (tar.name, sizes[0], file_sha256(tar))
    if (entry["name"], entry["bytes"], entry["sha256"]) != said:
        raise DataError(f"{tar}: is not the shard that was written")
    samples = index_shard(tar)
    text = read_file(index, most_bytes=most_index_bytes(sizes[0]), error=DataError)
    if len(samples) != entry["count"] or text != format_index(samples).encode():
        raise DataError(f"{index}: does not describe {tar.name}")
