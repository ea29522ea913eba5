"""Addresses without what is secret in them, for whatever is printed or written: one way for the whole framework."""

from __future__ import annotations

import re

_PIPE = "pipe:"
_SHARD = re.compile(r"[\w.-]+\.tar\b")
_CREDENTIALS = re.compile(r"(?<=://)[^/\s]+@")
# A sentence may end, or go on after a colon, right behind an address.
_QUERY = re.compile(r"(://[^\s?#]+)[?#]\S*?(?=[\"'`)\]}>.,:;]*(?:\s|$))")


def redact_text(text: str) -> str:
    """Return a location or a command line without passwords, tokens in queries, and commands behind `pipe:`.

    Of a `pipe:` command, which may hold anything, only the name of the shard that it brings is kept, if there is one.
    """
    head, pipe, command = text.partition(_PIPE)
    if pipe:
        shards = _SHARD.findall(command)
        text = f"{head}{pipe}***{shards[-1] if shards else ''}"
    return redact_urls(text)


def redact_urls(text: str) -> str:
    """Return a message without the passwords and queries of the addresses in it."""
    return _QUERY.sub(r"\1?***", _CREDENTIALS.sub("***@", text))
