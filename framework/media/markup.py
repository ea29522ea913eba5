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


def document(*body: Html | None, title: str, policy: str, style: str) -> str:
    """Return a whole page that follows the colours of the reader's screen and loads what a policy allows.

    Args:
        body: the elements of its body.
        title: what the browser calls it.
        policy: its Content-Security-Policy.
        style: its style sheet.
    """
    head = tag(
        "head",
        tag("meta", charset="utf-8"),
        tag("meta", http_equiv="Content-Security-Policy", content=policy),
        tag("meta", name="viewport", content="width=device-width, initial-scale=1"),
        tag("meta", name="color-scheme", content="light dark"),
        tag("title", title),
        tag("style", Html(style)),
    )
    return f"<!doctype html>\n{tag('html', head, tag('body', *body), lang='en')}\n"


def _attribute(key: str, value: object) -> str:
    name = key.rstrip("_").replace("_", "-")
    return f" {name}" if value is True else f' {name}="{escape(str(value))}"'
