"""A page of HTML in one file that loads nothing."""

from __future__ import annotations

import re
from dataclasses import KW_ONLY, dataclass
from typing import ClassVar

from framework.media.base import MOST_BYTES, Media, check_text
from framework.utils.errors import FrameworkError
from framework.utils.quantities import format_bytes

# Elements that fetch, connect or embed whatever a browser's security policy says; `base` turns all links.
_REACHES_OUT = re.compile(r"<\s*(link|base|iframe|frame|frameset|object|embed)\b", re.IGNORECASE)


@dataclass(frozen=True, eq=False)
class Page(Media):
    """One self-contained page: styles and pictures are in it, as `<style>` and `data:` addresses.

    The report of a run shows it in a frame of its own in which no script runs; a browser that opens the file itself
    runs its scripts.

    Attributes:
        html: the whole document.
        title: what it shows, for the description.

    Raises:
        FrameworkError: it is no text, larger than `MOST_BYTES`, or holds an element that reaches out.
    """

    suffix: ClassVar[str] = ".html"
    form: ClassVar[str] = "page"

    html: str
    _: KW_ONLY
    title: str

    def __post_init__(self) -> None:
        check_text(self.title, what="the title of a page")
        if not isinstance(self.html, str):
            raise FrameworkError(f"page {self.title!r}: must be a text, got a {type(self.html).__name__}")
        try:
            num_bytes = len(self.html.encode())
        except UnicodeEncodeError as error:
            raise FrameworkError(f"page {self.title!r}: character {error.start} is half a character") from None
        if num_bytes > MOST_BYTES:
            raise FrameworkError(
                f"page {self.title!r} has {format_bytes(num_bytes)}, a page may have {format_bytes(MOST_BYTES)}"
            )
        if element := reaching_out(self.html):
            raise FrameworkError(
                f"page {self.title!r} holds a <{element}>, which reaches out of the page: put what it needs into the "
                "page itself (<style>, data: addresses)"
            )

    @property
    def description(self) -> str:
        """The title."""
        return self.title

    def encode(self) -> bytes:
        """Return the document in UTF-8."""
        return self.html.encode()


def reaching_out(html: str) -> str:
    """Return the name of the first element that may reach out of a page; empty if there is none."""
    found = _REACHES_OUT.search(html)
    return found[1].lower() if found else ""
