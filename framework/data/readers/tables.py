"""Reads a table of numbers, such as points: a `.csv` (commas) or `.tsv` (tabs), of which each line is a sample.

Every line but an optional header has the same number of cells; all are finite numbers but those of the column of
labels. Whatever else is there is refused with its line and column: a line that was left out in silence would change the
distribution that is learnt.
"""

from __future__ import annotations

import array
import hashlib
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import BinaryIO, overload

import numpy as np
import numpy.typing as npt

from framework.data.labels import MAX_CLASSES
from framework.data.readers.base import Labels, Source, SourceError
from framework.utils.bounded import open_regular

SEPARATORS = {".csv": ",", ".tsv": "\t"}
"""What stands between the cells of a line, by the suffix of the file."""
_MOST_LINE_BYTES = 1 << 21  # 32 bytes for each of the most columns
_MOST_COLUMNS = 1 << 16
_MOST_NAMED_CLASSES = 10_000
_MOST_CLASS_CHARACTERS = 100
_LARGEST = float(np.finfo(np.float32).max)
# Every part begins with another character than the one before may have, so that no text is tried in several ways.
_NUMBER = re.compile(r"[+-]?([0-9]+(\.[0-9]*)?|\.[0-9]+)([eE][+-]?[0-9]+)?")
_NO_NAMES = {"", "nan", "inf", "infinity", "na", "null"}  # what a header does not have, and missing values look like


def open_table(path: Path, *, labels: bool = True, label_column: str = "") -> Source:
    """Return the rows of a table as vectors, little-endian float32, with the labels of one column where it is named.

    Args:
        path: a `.csv` or `.tsv` file in UTF-8; its first line is a header where none of its cells is a number.
        labels: whether there may be labels.
        label_column: name of the column of labels in the header, or its number from 1 on; "": all columns are numbers.
            Labels are class numbers, or, where none of them is a whole number, names, which are sorted.

    Raises:
        SourceError: the file cannot be read, is empty or no table, has lines of several lengths, or a cell is no finite
            number or no label; names the line and the column.
    """
    table = _Table(path, label_column=label_column if labels else "")
    try:
        with open_regular(path, error=SourceError) as file:
            modified_ns = path.stat().st_mtime_ns
            for number, line in _lines(file, path):
                table.add(number, line)
    except OSError as error:
        raise SourceError(f"{path}: cannot be read ({error.strerror or error})") from None
    rows, classes, names = table.rows(), *table.labels()
    digest = hashlib.sha256(f"{rows.shape} {names}".encode())
    digest.update(rows.data)
    if classes is not None:
        digest.update(classes.astype("<i8").tobytes())
    return Source(
        kind=path.suffix[1:],
        name=path.stem,
        names=_Names(path.name, table.numbers),
        read=lambda index: rows[index].tobytes(),
        digest=digest.hexdigest(),
        modified_ns=modified_ns,
        labels=classes,
        class_names=names,
        dims=rows.shape[1],
    )


def _lines(file: BinaryIO, path: Path) -> Iterator[tuple[int, str]]:
    """Yield number and text of every line; empty ones at the end are left out, and others refused."""
    number, empty = 0, 0
    while line := file.readline(_MOST_LINE_BYTES + 1):
        number += 1
        where = f"{path}, line {number}"
        if len(line) > _MOST_LINE_BYTES:
            raise SourceError(f"{where}: has more than {_MOST_LINE_BYTES:,} bytes; this is no table of numbers")
        if b"\0" in line:
            raise SourceError(f"{where}: holds a byte 0: this is no text in UTF-8; save the table as UTF-8")
        try:
            text = line.decode("utf-8-sig" if number == 1 else "utf-8").rstrip("\r\n")
        except UnicodeDecodeError as error:
            raise SourceError(f"{where}: is no text in UTF-8 (byte {error.start + 1})") from None
        if not text.strip():
            empty = empty or number
            continue
        if empty:
            raise SourceError(f"{path}, line {empty}: is empty, and others follow; remove it")
        yield number, text


@dataclass(kw_only=True)
class _Column:
    """The labels as they are read: how often a text came first, and the number of each line's text."""

    at: int
    texts: dict[str, int] = field(default_factory=dict)
    """Text -> number, in the order of their first lines."""
    first: list[int] = field(default_factory=list)
    """The first line of each text."""
    found: array.array[int] = field(default_factory=lambda: array.array("q"))
    """The number of the text of each row."""


class _Table:
    """The rows of a table as they are read.

    Args:
        path: for messages.
        label_column: see `open_table`.

    Attributes:
        numbers: the number of the line of each row.
    """

    def __init__(self, path: Path, *, label_column: str) -> None:
        self._path, self._asked, self._separator = path, label_column, SEPARATORS[path.suffix]
        self._width, self._column = 0, None if not label_column else _Column(at=-1)
        self._values, self.numbers = array.array("f"), array.array("q")

    def add(self, number: int, line: str) -> None:
        """Take in a line.

        Raises:
            SourceError: it does not fit; names line and column.
        """
        cells = [_cell(text) for text in line.split(self._separator)]
        if not self._width:
            self._begin(number, cells)
            if not any(map(_is_number, cells)):
                return
        if len(cells) != self._width:
            raise SourceError(f"{self._where(number)}: has {len(cells)} columns, the first line has {self._width}")
        for at, cell in enumerate(cells):
            if self._column is not None and at == self._column.at:
                self._add_label(self._column, number, cell)
            else:
                self._values.append(self._number(cell, number, at))
        self.numbers.append(number)

    def rows(self) -> npt.NDArray[np.float32]:
        """Return the vectors, little-endian float32 (n, dims).

        Raises:
            SourceError: there are none.
        """
        if not self.numbers:
            what = "has a header and no other line" if self._width else "is empty"
            raise SourceError(f"{self._path}: {what}; it needs lines of numbers")
        return np.asarray(self._values, "<f4").reshape(len(self.numbers), -1)

    def labels(self) -> tuple[Labels | None, tuple[str, ...]]:
        """Return class numbers, int64 (n,), and the names of classes where they have some; None without a column.

        Raises:
            SourceError: some labels are numbers and others are names, or a number is too large.
        """
        column = self._column
        if column is None:
            return None, ()
        numbered = [_is_whole(text) for text in column.texts]
        if any(numbered) and not all(numbered):
            other = list(column.texts)[numbered.index(not numbered[0])]
            line = column.first[column.texts[other]]
            raise SourceError(f"{self._where(line, column.at)}: {other!r} is {_kind(other)}, labels before it are not")
        if all(numbered):
            values = [self._class(text, line, column.at) for text, line in zip(column.texts, column.first, strict=True)]
            return np.array(values, np.int64)[np.asarray(column.found)], ()
        names = tuple(sorted(column.texts))
        order = {name: index for index, name in enumerate(names)}
        return np.array([order[text] for text in column.texts], np.int64)[np.asarray(column.found)], names

    def _begin(self, number: int, cells: list[str]) -> None:
        """Learn from the first line how many columns there are, and which is that of the labels."""
        self._width, asked, column = len(cells), self._asked, self._column
        if len(cells) > _MOST_COLUMNS:
            raise SourceError(f"{self._where(number)}: has {len(cells):,} columns, at most {_MOST_COLUMNS:,} are read")
        if column is None:
            return
        header = [] if any(map(_is_number, cells)) else cells
        if header.count(asked) > 1:
            raise SourceError(f"{self._where(number)}: names several columns {asked!r}; give the number of one")
        if asked in header:
            column.at = header.index(asked)
        elif _is_whole(asked) and 1 <= int(asked[:9]) <= len(cells):
            column.at = int(asked[:9]) - 1
        else:
            has = f"it has {', '.join(header)}"[:200] if header else f"it has {len(cells)}, and no header"
            raise SourceError(f"{self._path}: has no column {asked!r} for the labels; {has}")
        if len(cells) == 1:
            raise SourceError(f"{self._path}: has no other column than that of the labels")

    def _number(self, cell: str, number: int, at: int) -> float:
        if _NUMBER.fullmatch(cell):
            value = float(cell)
            if abs(value) <= _LARGEST:
                return value
            raise SourceError(f"{self._where(number, at)}: {_shown(cell)} is too large for a 32-bit number")
        hint = "" if self._column else "; if the column holds labels, name it with --label-column"
        if ";" in cell or "\t" in cell:
            hint = "; cells are separated by commas in a .csv and by tabs in a .tsv"
        if cell.lower().lstrip("+-") in _NO_NAMES:
            raise SourceError(f"{self._where(number, at)}: {_shown(cell)} is no finite number")
        raise SourceError(f"{self._where(number, at)}: {_shown(cell)} is no number{hint}")

    def _add_label(self, column: _Column, number: int, cell: str) -> None:
        if not cell or len(cell) > _MOST_CLASS_CHARACTERS or not cell.isprintable():
            raise SourceError(f"{self._where(number, column.at)}: {_shown(cell)} is no label")
        index = column.texts.setdefault(cell, len(column.texts))
        if index == len(column.first):
            column.first.append(number)
            if len(column.first) > MAX_CLASSES or (len(column.first) > _MOST_NAMED_CLASSES and not _is_whole(cell)):
                raise SourceError(f"{self._where(number, column.at)}: so many different labels are no classes")
        column.found.append(index)

    def _class(self, text: str, line: int, at: int) -> int:
        if len(text) > len(str(MAX_CLASSES)) or int(text) >= MAX_CLASSES:
            raise SourceError(f"{self._where(line, at)}: class {text[:20]} is above {MAX_CLASSES - 1:,}")
        return int(text)

    def _where(self, number: int, at: int | None = None) -> str:
        return f"{self._path}, line {number}" + ("" if at is None else f", column {at + 1}")


class _Names(Sequence[str]):
    """What the samples are called in errors, made when it is asked for."""

    def __init__(self, file: str, lines: Sequence[int]) -> None:
        self._file, self._lines = file, lines

    def __len__(self) -> int:
        return len(self._lines)

    @overload
    def __getitem__(self, index: int) -> str: ...
    @overload
    def __getitem__(self, index: slice) -> Sequence[str]: ...
    def __getitem__(self, index: int | slice) -> str | Sequence[str]:
        if isinstance(index, slice):
            return _Names(self._file, self._lines[index])
        return f"{self._file}, line {self._lines[index]}"


def _cell(text: str) -> str:
    """Return what a cell holds, without spaces and quotation marks around it."""
    text = text.strip()
    return text[1:-1].strip() if len(text) > 1 and text[0] == text[-1] == '"' else text


def _is_number(cell: str) -> bool:
    """Return whether a cell is a number, or what stands where one is missing; a header has none of these."""
    return bool(_NUMBER.fullmatch(cell)) or cell.lower().lstrip("+-") in _NO_NAMES


def _is_whole(text: str) -> bool:
    return text.isascii() and text.isdecimal()


def _kind(text: str) -> str:
    return "a whole number" if _is_whole(text) else "a name"


def _shown(cell: str) -> str:
    return repr(cell if len(cell) <= 40 else cell[:40] + "...")
