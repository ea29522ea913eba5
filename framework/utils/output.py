"""Keeps a program from ending because the terminal cannot show what it prints."""

from __future__ import annotations

import io
import sys


def escape_unprintable() -> None:
    """Print characters that the locale's encoding lacks as `\\u65e5`, as standard error does from the start.

    Names of classes and files come from anywhere. Python raises an error for them under a locale that is not UTF-8, and
    under any locale for a file's name that is not valid in it.
    """
    if isinstance(sys.stdout, io.TextIOWrapper):  # that of a notebook or a test need not be one
        sys.stdout.reconfigure(errors="backslashreplace")
