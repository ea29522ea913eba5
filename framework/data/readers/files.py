"""Reads pictures that are files in a folder or a zip.

There is either one sub-folder per class (class numbers follow the sorted names), or a flat folder without labels, or a
`dataset.json` with `{"labels": [[file, class], ...]}` (the layout that StyleGAN's tools write).
"""

from __future__ import annotations

import os
import zipfile
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path, PurePosixPath
from typing import BinaryIO

from framework.data.index import IMAGE_EXTENSIONS, OTHER_IMAGE_EXTENSIONS
from framework.data.readers.base import BadImageError, Labels, Source, SourceError, as_labels, digest_rows
from framework.utils.archives import read_member
from framework.utils.bounded import MOST_JSON_BYTES, decoding, open_regular, parse_json, read_file
from framework.utils.errors import FrameworkError
from framework.utils.pictures import MOST_BYTES

PICTURE_SUFFIXES = frozenset(f".{extension}" for extension in (*IMAGE_EXTENSIONS, *OTHER_IMAGE_EXTENSIONS))
"""Suffixes of files that are read."""
LABEL_FILE = "dataset.json"
"""Name of the file with labels."""


def open_folder(path: Path, *, labels: bool = True) -> Source:
    """Return the pictures in a folder, at any depth, sorted by path; links are followed, hidden files left out.

    Raises:
        SourceError: there is no picture, there are pictures beside class folders, a class folder is empty, or a
            `dataset.json` is wrong.
    """
    # Names decide on the order, and on the labels where there is no file with them.
    sizes, modified_ns, others = walk_pictures(path)
    names = sorted(sizes)
    found: tuple[Labels | None, tuple[str, ...]] = (None, ())
    if labels:
        file = _label_file(others, path)
        found = _find_labels(names, _read_label_file(path / file) if file else None, file, path)
        if found[1] and file is None:
            _refuse_empty_classes(path, names)

    def read(index: int) -> bytes:
        try:
            return read_file(path / names[index], most_bytes=MOST_BYTES, error=BadImageError)
        except OSError as error:
            raise BadImageError(f"cannot be read ({error.strerror})") from None

    return Source(
        kind="folder",
        name=path.resolve().name,
        names=names,
        read=read,
        digest=digest_rows((name, sizes[name]) for name in names),
        modified_ns=modified_ns,
        labels=found[0],
        class_names=found[1],
        ignored=_by_suffix(others),
    )


def open_zip(path: Path, *, labels: bool = True) -> Source:
    """Return the pictures in a zip, sorted by path, under the same rules as a folder.

    Raises:
        SourceError: it is no zip, holds two files of one name, or see `open_folder`.
    """
    try:
        with decoding(f"{path}: cannot be opened as a zip: it", error=SourceError):
            archive = _Archive(open_regular(path, error=SourceError))
    except OSError as error:
        raise SourceError(f"{path}: cannot be opened as a zip ({error.strerror or error})") from None
    # Two entries of one name cannot be told apart.
    named = [entry for entry in archive.infolist() if entry.filename]  # zipfile fails at the others' first use
    listed = [entry for entry in named if not entry.is_dir() and _shown(entry.filename)]
    entries = {entry.filename: entry for entry in listed}
    if len(entries) < len(listed):
        archive.close()
        name, count = Counter(entry.filename for entry in listed).most_common(1)[0]
        raise SourceError(f"{path}: holds {count} entries named {name}; only one of them can be meant: write it anew")
    # Labels are found as in a folder.
    names = sorted(name for name in entries if _is_picture(name))
    others = sorted(entries.keys() - set(names))
    found: tuple[Labels | None, tuple[str, ...]] = (None, ())
    if labels:
        table = _label_file(others, path)
        text = None
        if table:
            text = _read_entry(archive, entries[table], path, most_bytes=MOST_JSON_BYTES, error=SourceError)
        found = _find_labels(names, text, table, path)

    def read(index: int) -> bytes:
        return _read_entry(archive, entries[names[index]], path, most_bytes=MOST_BYTES, error=BadImageError)

    return Source(
        kind="zip",
        name=path.stem,
        names=names,
        read=read,
        digest=digest_rows((name, entries[name].file_size, entries[name].CRC) for name in names),
        modified_ns=path.stat().st_mtime_ns,
        labels=found[0],
        class_names=found[1],
        ignored=_by_suffix(others),
        close=archive.close,
    )


class _Archive(zipfile.ZipFile):
    """A zip that closes its file, as one does that was opened by name."""

    def __init__(self, file: BinaryIO) -> None:
        self._opened = file
        super().__init__(file)

    def close(self) -> None:
        super().close()
        self._opened.close()


def _read_entry(
    archive: zipfile.ZipFile,
    entry: zipfile.ZipInfo,
    path: Path,
    *,
    most_bytes: int,
    error: type[SourceError | BadImageError],
) -> bytes:
    try:
        return read_member(archive, entry, most_bytes=most_bytes, source=path)
    except FrameworkError as cause:
        raise error(f"cannot be read from the zip ({cause})") from None


def _read_label_file(path: Path) -> bytes:
    try:
        return read_file(path, most_bytes=MOST_JSON_BYTES, error=SourceError)
    except OSError as error:
        raise SourceError(f"{path}: cannot be read ({error.strerror})") from None


def walk_pictures(root: Path) -> tuple[dict[str, int], int, list[str]]:
    """Return picture -> size in bytes, the latest change, and the other files; all paths are relative, with `/`."""
    sizes: dict[str, int] = {}
    modified_ns, others = 0, []
    visited: set[tuple[int, int]] = set()  # folders, so that a link to a parent does not walk in circles
    for folder, folders, files in os.walk(root, followlinks=True, onerror=_refuse_folder):
        status = os.stat(folder)
        if (status.st_dev, status.st_ino) in visited:
            folders.clear()
            continue
        visited.add((status.st_dev, status.st_ino))
        folders[:] = sorted(name for name in folders if _shown(name))
        for file in filter(_shown, files):
            full = Path(folder, file)
            name = full.relative_to(root).as_posix()
            if not _is_picture(name):
                others.append(name)
                continue
            try:
                status = full.stat()
            except OSError as error:
                raise SourceError(f"{full}: cannot be read ({error.strerror}); a link that leads nowhere?") from None
            sizes[name], modified_ns = status.st_size, max(modified_ns, status.st_mtime_ns)
    return sizes, modified_ns, sorted(others)


def _refuse_folder(error: OSError) -> None:
    """Raise for a folder that cannot be listed, which `os.walk` would pass over in silence, with its pictures."""
    raise SourceError(f"{error.filename}: cannot be listed ({error.strerror})")


def _shown(name: str) -> bool:
    """Return whether a file is neither hidden nor in the folder that macOS adds to zips."""
    return not any(part.startswith(".") or part == "__MACOSX" for part in PurePosixPath(name).parts)


def _is_picture(name: str) -> bool:
    return PurePosixPath(name).suffix.lower() in PICTURE_SUFFIXES


def _is_label_file(name: str) -> bool:
    return name.count("/") <= 1 and PurePosixPath(name).name == LABEL_FILE


def _by_suffix(others: Iterable[str]) -> dict[str, int]:
    """Return suffix -> number of files that are neither pictures nor labels, the commonest first."""
    files = (PurePosixPath(name) for name in others if not _is_label_file(name))
    return dict(Counter(file.suffix.lower() or file.name for file in files).most_common())


def in_words(ignored: Mapping[str, int]) -> str:
    """Return the files that are not read as text, such as "3 .txt, 1 .mp4", with the ten commonest suffixes."""
    shown = [f"{count:,} {suffix}" for suffix, count in list(ignored.items())[:10]]
    rest = sum(list(ignored.values())[10:])
    return ", ".join(shown + ([f"{rest:,} others"] if rest else []))


def _label_file(others: Sequence[str], origin: Path) -> str | None:
    """Return the one `dataset.json` at the top or one folder below it, or None."""
    files = [name for name in others if _is_label_file(name)]
    if len(files) > 1:
        raise SourceError(f"{origin}: {files[0]} and {files[1]} both hold labels; keep one, or pack with labels off")
    return files[0] if files else None


def _find_labels(
    names: Sequence[str], text: bytes | None, file: str | None, origin: Path
) -> tuple[Labels | None, tuple[str, ...]]:
    """Return labels and class names from `dataset.json` where there is one, else from the sub-folders."""
    if text is None or file is None:
        return _labels_of_folders(names, origin)
    base = PurePosixPath(file).parent
    return _labels_of_file(names, text, base, f"{origin}/{file}"), ()


def _labels_of_folders(names: Sequence[str], origin: Path) -> tuple[Labels | None, tuple[str, ...]]:
    parts = [PurePosixPath(name).parts for name in names]
    while parts and all(len(part) > 1 and part[0] == parts[0][0] for part in parts):
        parts = [part[1:] for part in parts]  # one folder around everything is packaging, not a class
    flat = [name for name, part in zip(names, parts, strict=True) if len(part) == 1]
    if len(flat) == len(names):
        return None, ()
    if flat:
        raise SourceError(
            f"{origin}: {flat[0]} and {len(flat) - 1} other pictures lie beside class folders; "
            f"move them into a class, or pack with labels off"
        )
    class_names = tuple(sorted({part[0] for part in parts}))
    number: Mapping[str, int] = {name: index for index, name in enumerate(class_names)}
    return as_labels([number[part[0]] for part in parts], origin=origin), class_names


def _labels_of_file(names: Sequence[str], text: bytes, base: PurePosixPath, origin: str) -> Labels | None:
    content = parse_json(text, source=origin, error=SourceError)
    rows = content.get("labels") if isinstance(content, dict) else ()
    if rows is None:
        return None
    if not isinstance(rows, list) or not all(map(_is_row, rows)):
        raise SourceError(
            f'{origin}: expected {{"labels": [[file, class], ...]}}, classes being whole numbers, or {{"labels": null}}'
        )
    pairs = [(str(base / name), label) for name, label in rows]
    table = dict(pairs)
    for name, label in pairs:
        if table[name] != label:
            raise SourceError(f"{origin}: names {name} twice, with classes {label} and {table[name]}")
    missing = [name for name in names if name not in table]
    if missing:
        raise SourceError(f"{origin}: no label for {missing[0]} and {len(missing) - 1} other pictures")
    absent = sorted(table.keys() - set(names))
    if absent:
        raise SourceError(f"{origin}: {absent[0]} and {len(absent) - 1} other pictures have a label, but do not exist")
    return as_labels([table[name] for name in names], origin=origin, names=names)


def _is_row(row: object) -> bool:
    """Return whether a row is a file and its class; `as_labels` checks that the class is in range."""
    return isinstance(row, list) and len(row) == 2 and isinstance(row[0], str) and type(row[1]) is int


def _refuse_empty_classes(path: Path, names: Sequence[str]) -> None:
    """Refuse a class folder without pictures, which would shift the numbers of the classes after it."""
    common = PurePosixPath(os.path.commonpath([PurePosixPath(name).parent for name in names]))
    used = {PurePosixPath(name).relative_to(common).parts[0] for name in names}
    for entry in sorted(os.scandir(path / common), key=lambda entry: entry.name):
        if entry.is_dir() and _shown(entry.name) and entry.name not in used:
            raise SourceError(f"{entry.path}: holds no pictures, but stands among the class folders; remove it")
