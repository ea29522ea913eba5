"""Finds the shards of a location: the place, the number of samples and the hash of each. These are locations:

/data/faces                                  folder with manifest.json (or one sub-folder per resolution)
/data/faces/train-{000000..000011}.tar       brace list; globs too; without a manifest the shards are indexed once
https://host/faces/                          the same over HTTP, through the cache
https://host/faces/train-{000000..000011}.tar
pipe:ssh host cat /data/train-{000000..000011}.tar
"""

from __future__ import annotations

import dataclasses
import functools
import glob
import hashlib
import os
import re
import urllib.parse
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from braceexpand import braceexpand

from framework.data.cache import ShardCache
from framework.data.errors import DataError, ManifestError
from framework.data.fetch import PIPE, FetchOptions, NotFoundError, fetch_bytes
from framework.data.manifest import (
    MANIFEST_NAME,
    MOST_MANIFEST_BYTES,
    Manifest,
    index_name,
    parse_manifest,
    parse_resolutions,
    read_manifest_file,
)
from framework.data.survey import RECORD_SUFFIX, ShardSurvey, manifest_of, recorded, survey_local, survey_shard
from framework.utils.redaction import redact_text

FOREIGN = "indexed shards"
"""The kind of source in the manifest of shards that were made by others and only indexed here."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Source:
    """A data set and the places of its parts.

    Attributes:
        location: location that was given, without passwords and tokens: for messages and documents.
        manifest: manifest of the shards.
        addresses: path, URL or `pipe:` command of each shard.
        indexes: path or URL of each `.idx`; "" where it is made from the fetched shard.
        remote: True if shards come through the cache.
    """

    location: str
    manifest: Manifest
    addresses: tuple[str, ...]
    indexes: tuple[str, ...]
    remote: bool

    def __post_init__(self) -> None:
        object.__setattr__(self, "location", redact_text(self.location))

    def to_json(self) -> dict[str, Any]:
        """Return a dictionary for `from_json` in another process."""
        parts = {"location": self.location, "addresses": self.addresses, "indexes": self.indexes}
        return {**parts, "remote": self.remote, "manifest": self.manifest.to_json()}

    @classmethod
    def from_json(cls, data: dict[str, Any]) -> Source:
        """Return the source that `to_json` described."""
        return cls(
            location=data["location"],
            manifest=Manifest.from_json(data["manifest"], origin=data["location"]),
            addresses=tuple(data["addresses"]),
            indexes=tuple(data["indexes"]),
            remote=data["remote"],
        )


def default_cache_folder() -> Path:
    """Return `$XDG_CACHE_HOME/framework/shards`, or the same under `~/.cache`."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "framework" / "shards"


def open_source(
    location: str | os.PathLike[str],
    *,
    cache: Callable[[], ShardCache],
    cache_folder: Path,
    options: FetchOptions,
    resolution: int | None = None,
) -> Source:
    """Return the shards of a location with their manifest; shards without one are read once and indexed.

    Args:
        location: see the top of this module.
        cache: a function that makes the cache for remote shards; called only if there are any.
        cache_folder: folder for the records of shards made by others.
        options: limits of each fetch.
        resolution: side in pixels that picks the sub-folder of a set with several; see `pick_resolution`.

    Raises:
        DataError: there is no such location, no shard in it, or no resolution that fits.
        ManifestError, ShardError: a manifest or a shard is damaged.
    """
    text = os.fspath(location)
    if text.startswith(PIPE):
        return _foreign_remote(text, _expand(text), cache(), cache_folder)
    if text.startswith(("http://", "https://")):
        shards = _expand(text)
        if len(shards) == 1 and not _path_of(text).endswith(".tar"):
            return _remote_folder(text, options, resolution)
        return _known_remote(text, shards, options) or _foreign_remote(text, shards, cache(), cache_folder)
    if "://" in text:
        scheme = text.partition("://")[0]
        raise DataError(f"{text}: {scheme}:// is not supported; use a path, http(s):// or pipe:<command>")
    if os.path.isdir(text):
        return _local_folder(Path(text), cache_folder, resolution)

    return _local_shards(text, list_shards(text), cache_folder)


def pick_resolution(table: dict[int, str], resolution: int | None, *, location: object) -> str:
    """Return the sub-folder for a resolution: the equal one, else the smallest that is 2, 4, 8, ... times as large.

    Args:
        table: sub-folder by resolution.
        resolution: side in pixels; None for the largest.
        location: name of the folder in errors.

    Raises:
        DataError: no resolution fits.
    """
    if resolution is None:
        return table[max(table)]
    fitting = [side for side in table if side % resolution == 0 and (side // resolution).bit_count() == 1]
    if not fitting:
        have = ", ".join(map(str, table))
        raise DataError(f"{location}: holds resolutions {have}, none fits {resolution}; pack it with {resolution} too")
    return table[min(fitting)]


def list_shards(pattern: str) -> list[Path]:
    """Return the local paths of a brace list of globs, in order; a part that matches nothing stays as it is.

    Raises:
        DataError: it is no brace list.
    """
    return [Path(path) for part in _expand(pattern) for path in (sorted(glob.glob(part)) or [part])]


def _expand(text: str) -> list[str]:
    try:
        return list(braceexpand(text, escape=False))  # a backslash in a pipe: command belongs to the command
    except ValueError as error:
        raise DataError(f"{redact_text(text)}: not a brace list ({error}); write {{000000..000011}}") from None


def _path_of(url: str) -> str:
    return urllib.parse.urlsplit(url).path


def _shard_name(address: str) -> str:
    """Return the last part of an address; for a command that does not end in a path, the shard it names, if any."""
    name = _path_of(address).rpartition("/")[2]
    if address.startswith(PIPE) and not re.fullmatch(r"[\w.-]*", name):
        return redact_text(address).removeprefix(f"{PIPE}***")
    return name


def _local_folder(folder: Path, cache_folder: Path, resolution: int | None, *, inner: bool = False) -> Source:
    path = folder / MANIFEST_NAME
    if not path.exists():
        shards = sorted(folder.glob("*.tar"))
        if not shards:
            raise DataError(f"{folder}: holds neither {MANIFEST_NAME} nor .tar shards; make them with `framework pack`")
        return _local_shards(str(folder), shards, cache_folder)
    data = read_manifest_file(path)
    table = parse_resolutions(data, origin=path)
    if table is not None:
        _refuse_nested(path, inner=inner)
        chosen = folder / pick_resolution(table, resolution, location=folder)
        return _local_folder(chosen, cache_folder, resolution, inner=True)
    return _local_source(str(folder), folder, parse_manifest(data, origin=path))


def _refuse_nested(origin: object, *, inner: bool) -> None:
    """Refuse a list of resolutions inside another: through links or a server, they could go on for ever."""
    if inner:
        raise ManifestError(f"{origin}: names resolutions, but is one itself; it must describe shards")


def _local_source(location: str, folder: Path, manifest: Manifest) -> Source:
    shards = tuple(str(folder / shard.name) for shard in manifest.shards)
    indexes = tuple(str(folder / index_name(shard.name)) for shard in manifest.shards)
    return Source(location=location, manifest=manifest, addresses=shards, indexes=indexes, remote=False)


def _local_shards(location: str, shards: Sequence[Path], cache_folder: Path) -> Source:
    """Return shards that were named one by one, with a manifest beside them that lists them all, or after a survey."""
    missing = [path for path in shards if not path.is_file()]
    if missing:
        more = f" and {len(missing) - 1} more" if len(missing) > 1 else ""
        raise DataError(f"{location}: no such file or folder: {missing[0]}{more}")
    # A manifest beside the shards saves reading them.
    folder = shards[0].parent
    if (folder / MANIFEST_NAME).exists() and all(path.parent == folder for path in shards):
        data = read_manifest_file(folder / MANIFEST_NAME)
        if parse_resolutions(data, origin=folder) is None:
            part = _part_of(parse_manifest(data, origin=folder / MANIFEST_NAME), [path.name for path in shards])
            if part is not None:
                return _local_source(location, folder, part)
    # Without one, each shard is surveyed, or was before.
    found = [survey_local(path, cache_folder=cache_folder) for path in shards]
    surveys = [survey for survey, _ in found]
    names = _unique_names([path.name for path in shards])
    manifest = manifest_of(
        surveys, names, name=folder.name, split="", source={"kind": FOREIGN, "name": redact_text(location)}
    )
    return Source(
        location=location,
        manifest=manifest,
        addresses=tuple(map(str, shards)),
        indexes=tuple(str(index) for _, index in found),
        remote=False,
    )


def _part_of(manifest: Manifest, names: Sequence[str]) -> Manifest | None:
    """Return the manifest of some of a set's shards; None if it does not list them all."""
    known = {shard.name: shard for shard in manifest.shards}
    if not all(name in known for name in names):
        return None
    if len(names) == len(known):
        return manifest
    return dataclasses.replace(manifest, shards=tuple(known[name] for name in names), label_counts=())


def _unique_names(names: Sequence[str]) -> list[str]:
    """Return names for a manifest, all different: shards of several folders or commands may have the same name."""
    if len(set(names)) == len(names):
        return list(names)
    return [f"{number:06d}-{name}" for number, name in enumerate(names)]


def _remote_folder(url: str, options: FetchOptions, resolution: int | None, *, inner: bool = False) -> Source:
    base = url if url.endswith("/") else url + "/"
    address = base + MANIFEST_NAME
    try:
        data = fetch_bytes(address, options=options, most_bytes=MOST_MANIFEST_BYTES)
    except NotFoundError:
        raise DataError(
            f"{address}: not there; a folder needs {MANIFEST_NAME} (`framework data index`), "
            f"shards without one must be listed: {base}train-{{000000..000011}}.tar"
        ) from None
    table = parse_resolutions(data, origin=address)
    if table is not None:
        _refuse_nested(address, inner=inner)
        chosen = base + pick_resolution(table, resolution, location=url)
        return _remote_folder(chosen, options, resolution, inner=True)
    return _remote_source(url, base, parse_manifest(data, origin=address))


def _remote_source(location: str, base: str, manifest: Manifest) -> Source:
    def address(name: str) -> str:
        return base + urllib.parse.quote(name)

    return Source(
        location=location,
        manifest=manifest,
        addresses=tuple(address(shard.name) for shard in manifest.shards),
        indexes=tuple(address(index_name(shard.name)) for shard in manifest.shards),
        remote=True,
    )


def _known_remote(location: str, shards: Sequence[str], options: FetchOptions) -> Source | None:
    """Return shards that are listed by URL if their folder has a manifest that lists them all, else None."""
    base = shards[0].rpartition("/")[0] + "/"
    if any("?" in shard or shard.rpartition("/")[0] + "/" != base for shard in shards):
        return None
    try:
        data = fetch_bytes(base + MANIFEST_NAME, options=options, most_bytes=MOST_MANIFEST_BYTES)
        manifest = parse_manifest(data, origin=base + MANIFEST_NAME)
    except (NotFoundError, ManifestError):
        return None
    part = _part_of(manifest, [urllib.parse.unquote(shard.rpartition("/")[2]) for shard in shards])
    return None if part is None else _remote_source(location, base, part)


def _foreign_remote(location: str, shards: Sequence[str], cache: ShardCache, cache_folder: Path) -> Source:
    """Return shards without a manifest; each is fetched once to learn its content, which a record then keeps."""

    def survey(address: str) -> ShardSurvey:
        with cache.unknown(address) as (path, sha256):
            found, samples = survey_shard(path, sha256=sha256)
            cache.keep_index(sha256, samples)
            return found

    # One record per address, whose lock lets one process fetch.
    folder = cache_folder / "surveys"
    surveys = []
    for address in shards:
        digest = hashlib.sha256(address.encode()).hexdigest()[:32]
        record, lock = folder / f"{digest}{RECORD_SUFFIX}", folder / f"{digest}.lock"
        surveys.append(recorded(record, functools.partial(survey, address), shard=address, lock=lock))
    names = _unique_names([_shard_name(address) or f"{i:06d}" for i, address in enumerate(shards)])
    source = {"kind": FOREIGN, "name": redact_text(location)}
    manifest = manifest_of(surveys, names, name=names[0].rpartition(".")[0], split="", source=source)
    return Source(
        location=location,
        manifest=manifest,
        addresses=tuple(shards),
        indexes=("",) * len(shards),
        remote=True,
    )
