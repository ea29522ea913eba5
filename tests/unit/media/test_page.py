"""Pages: written as they are, and refused when they would not be whole in themselves."""

from __future__ import annotations

from pathlib import Path

import pytest

from framework.media import Page
from framework.media.base import MOST_BYTES
from framework.utils.errors import FrameworkError

WHOLE = "<!doctype html><style>p { color: red }</style><p>é<svg></svg><script>let linked = 1 < 2;</script>"


def test_a_page_is_written_as_it_is(tmp_path: Path) -> None:
    page = Page(WHOLE, title="Neighbours")
    saved = page.save(tmp_path / "page.html")
    assert saved.read_bytes() == WHOLE.encode() == page.encode()
    assert page.description == "Neighbours"


@pytest.mark.parametrize("element", ["link", "base", "iframe", "frame", "object", "embed"])
def test_a_page_that_reaches_out_is_refused(element: str) -> None:
    for text in (f"<{element} href=x>", f"<{element.upper()}>", f"< {element}/>", f"<p><{element}\n"):
        with pytest.raises(FrameworkError, match=f"<{element}>, which reaches out"):
            Page(text, title="t")
    Page(f"<p>{element} <{element}s>", title="t")


def test_what_no_browser_opens_is_refused() -> None:
    with pytest.raises(FrameworkError, match="half a character"):
        Page("\ud800", title="t")
    with pytest.raises(FrameworkError, match=r"a page may have 32\.0 MiB"):
        Page("x" * (MOST_BYTES + 1), title="t")
    with pytest.raises(FrameworkError, match="must be a text"):
        Page(b"<p>", title="t")  # type: ignore[arg-type]
