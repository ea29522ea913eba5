"""Removes secrets from addresses before they are printed or written, in one way for the whole framework."""

from __future__ import annotations

import re

_PIPE = "pipe:"
_SHARD = re.compile(r"[\w.-]+\.tar\b")
_CREDENTIALS = re.compile(r"(?<=://)[^/\s]+@")
# A sentence may end, or go on after a colon, right behind an address.
_QUERY = re.compile(r"(://[^\s?#]+)[?#]\S*?(?=[\"'`)\]}>.,:;]*(?:\s|$))")
_PATH = re.compile(r"(https?://[^\s/?#]+)(/[^\s?#]*)")
# Capability addresses: whoever has the path may read. By name, a UUID, or letters and numbers that nobody would choose.
_NAMED = re.compile(r"(?i)(?<![a-z])((?:[a-z]+[_-])?(?:token|sig|signature|key|secret|password|auth)[=:])[^/;,&]+")
_UUID = re.compile(r"(?i)[0-9a-f]{8}-(?:[0-9a-f]{4}-){3}[0-9a-f]{12}")
_DRAWN = re.compile(r"[A-Za-z0-9_~%=+-]{16,}(?:\.[A-Za-z0-9_-]{16,})*")
_RUN = re.compile(r"[A-Za-z0-9]{16,}")
_CHANGES = re.compile(r"[A-Z]+|[a-z]+|[0-9]+")
_MOST_CHANGES = 8
"""Largest number of changes between capitals, small letters and digits in a name that somebody has chosen."""


def redact_text(text: str) -> str:
    """Return a location or a command line without passwords, tokens in queries, and commands behind `pipe:`.

    A `pipe:` command may hold anything; only the name of the shard that it reads is kept, if there is one.
    """
    head, pipe, command = text.partition(_PIPE)
    if pipe:
        shards = _SHARD.findall(command)
        text = f"{head}{pipe}***{shards[-1] if shards else ''}"
    return redact_urls(text)


def redact_urls(text: str) -> str:
    """Return a message without the passwords, the queries, and tokens in the paths of the addresses in it.

    Nothing marks a token in a path: long names that look random are taken for one.
    """
    text = _QUERY.sub(r"\1?***", _CREDENTIALS.sub("***@", text))
    return _PATH.sub(lambda found: found[1] + _without_tokens(found[2]), text)


def _without_tokens(path: str) -> str:
    """Return the path of an address, whose last part names a file, without its tokens."""
    *folders, file = _UUID.sub("***", _NAMED.sub(r"\1***", path)).split("/")
    shown = [_DRAWN.sub(lambda word: "***" if _is_drawn(re.sub("[^A-Za-z0-9]", "", word[0])) else word[0], folder)
             for folder in folders]  # fmt: skip
    return "/".join([*shown, _RUN.sub(lambda run: "***" if _is_drawn(run[0]) else run[0], file)])


def _is_drawn(word: str) -> bool:
    """Return whether letters and digits change as often as in a hash or a random key."""
    groups = _CHANGES.findall(word)
    digits = sum(group.isdigit() for group in groups)
    return len(word) >= 16 and len(groups) > digits >= 1 and (digits >= 3 or len(groups) > _MOST_CHANGES)
