from __future__ import annotations

import pytest

from framework.utils.quantities import format_bytes, format_count, format_duration, parse_count
from framework.utils.suggest import nearest


@pytest.mark.parametrize(
    ("text", "value"), [("200k", 200_000), ("1.5M", 1_500_000), ("25_000", 25_000), ("7", 7), ("2g", 2 * 10**9)]
)
def test_counts(text: str, value: int) -> None:
    assert parse_count(text) == value


@pytest.mark.parametrize("text", ["", "k", "1.5", "ten", "1e3x", "0.0001k", "nan"])
def test_what_is_no_count(text: str) -> None:
    with pytest.raises(ValueError, match=r"not a"):
        parse_count(text)


def test_formats() -> None:
    assert [format_count(v) for v in (200_000, 1_500_000, 2048, 12)] == ["200k", "1.5M", "2,048", "12"]
    assert [format_duration(v) for v in (5, 95, 3725)] == ["0:05", "1:35", "1:02:05"]
    assert [format_bytes(v) for v in (12, 1536, 3 << 30)] == ["12 B", "1.5 KiB", "3.0 GiB"]


def test_nearest() -> None:
    assert nearest("optimiser", ["optimizer", "engine"]) == "; nearest: optimizer"
    assert nearest("zzz", ["optimizer"]) == ""
