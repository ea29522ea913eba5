"""Parses and formats quantities as people write them: `200k`, `1.5M`, `25_000`, `1:02:05`, `1.5 GiB`."""

from __future__ import annotations

from decimal import Decimal, InvalidOperation

_SUFFIXES = {"k": 10**3, "m": 10**6, "g": 10**9, "b": 10**9}


def parse_count(text: str) -> int:
    """Parse an integer with an optional suffix k, M, G or B (powers of ten).

    Raises:
        ValueError: the text is not a whole number, or one of more than 64 bits.
    """
    cleaned = text.strip().lower().replace("_", "").replace(",", "")
    factor = _SUFFIXES.get(cleaned[-1:], 1)
    digits = cleaned[:-1] if factor > 1 else cleaned
    try:
        value = Decimal(digits) * factor
    except InvalidOperation:
        raise ValueError(f"{text!r} is not a count; write for example 20000, 20k or 1.5M") from None
    if value.is_finite() and abs(value) >= 2**63:
        raise ValueError(f"{text!r} is too large: counts are below 2^63")
    if not value.is_finite() or value != value.to_integral_value():
        raise ValueError(f"{text!r} is not a whole number")
    return int(value)


def format_count(value: float) -> str:
    """Format 200000 as `200k` and 1500000 as `1.5M`; small or uneven numbers with thousands separators."""
    for suffix, factor in (("M", 10**6), ("k", 10**3)):
        if value >= factor and value % (factor // 10) == 0:
            return f"{value / factor:g}{suffix}"
    return f"{value:,.0f}"


def format_duration(seconds: float) -> str:
    """Format 3725 seconds as `1:02:05` and 95 seconds as `1:35`."""
    whole = max(0, round(seconds))
    hours, minutes = whole // 3600, whole % 3600 // 60
    return f"{hours}:{minutes:02d}:{whole % 60:02d}" if hours else f"{minutes}:{whole % 60:02d}"


def format_bytes(num_bytes: float) -> str:
    """Format bytes in binary units, such as `1.5 GiB`."""
    for unit in ("B", "KiB", "MiB", "GiB"):
        if abs(num_bytes) < 1024 or unit == "GiB":
            return f"{num_bytes:.0f} {unit}" if unit == "B" else f"{num_bytes:.1f} {unit}"
        num_bytes /= 1024
    raise AssertionError("unreachable")
