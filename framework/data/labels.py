"""Class numbers: the rule for labels, wherever they are read from."""

from __future__ import annotations

MAX_CLASSES = 1_000_000
"""Largest number of classes: labels are 0 ... MAX_CLASSES - 1. Counts and embeddings have a row for each of them."""

_MAX_LABEL_BYTES = 64


def parse_label(data: bytes, *, classes: int = MAX_CLASSES) -> int:
    """Return the label in the text of a `.cls` member, an ASCII integer in [0, classes).

    Raises:
        ValueError: it is not an ASCII integer, or out of range. The caller adds shard and key.
    """
    text = data.strip() if len(data) <= _MAX_LABEL_BYTES else b""
    if not text.isdigit():
        raise ValueError(f"label is {data[:20]!r}, must be an ASCII integer")
    number = int(text)
    if number >= MAX_CLASSES:
        raise ValueError(f"label is {number}, the largest accepted one is {MAX_CLASSES - 1}")
    if number >= classes:
        raise ValueError(f"label is {number}, must be below the number of classes, {classes}")
    return number


def is_label(data: bytes) -> bool:
    """Return whether the text of a label is a whole number, in range or not."""
    return len(data) <= _MAX_LABEL_BYTES and data.strip().isdigit()
