"""HTML in which text is always escaped, because it becomes markup only through `tag` and `join`."""

from __future__ import annotations

from html import escape

_VOID = {"img", "input", "meta", "br", "hr", "col"}


class Html(str):
    """Markup that is safe to write as it is."""


def tag(name: str, /, *children: str | Html | None, **attributes: object) -> Html:
    """Return an element. Children that are not `Html` are escaped; None is left out.

    Attributes are given by keyword: `class_` and `for_` lose their underscore, other underscores become dashes; True is
    written without a value; None and False are left out.
    """
    # 0 is a value, and equal to False.
    given = {key: value for key, value in attributes.items() if value is not None and value is not False}
    written = "".join(_attribute(key, value) for key, value in given.items())
    if name in _VOID:
        return Html(f"<{name}{written}>")
    return Html(f"<{name}{written}>{join(*children)}</{name}>")


def join(*children: str | Html | None) -> Html:
    """Return the children one after the other; those that are not `Html` are escaped, and None is left out."""
    return Html("".join(c if isinstance(c, Html) else escape(str(c)) for c in children if c is not None))


def _attribute(key: str, value: object) -> str:
    name = key.rstrip("_").replace("_", "-")
    return f" {name}" if value is True else f' {name}="{escape(str(value))}"'
