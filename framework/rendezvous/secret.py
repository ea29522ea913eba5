"""The secret of a job, which its machines know and nobody else on their network does."""

from __future__ import annotations

import os
import stat
from collections.abc import MutableMapping
from pathlib import Path

from framework.utils.errors import FrameworkError

VALUE, FILE = "JOB_SECRET", "JOB_SECRET_FILE"
"""Names of the variables that hold the secret, or the path of its file."""
MIN_CHARACTERS = 32
"""Length of the shortest secret: whoever listens at the address of machine 0 gets a proof to test guesses against, and
32 hex digits are too many to guess."""


def take_secret(environment: MutableMapping[str, str]) -> bytes:
    """Return the job's secret and take its value out of the environment, which the processes to be started inherit.

    Raises:
        FrameworkError: there is none, it is too short, or its file cannot be read or may be read by everybody.
    """
    text = environment.pop(VALUE, "")
    where = VALUE
    if not text:
        if not environment.get(FILE):
            raise FrameworkError(
                "machines that restart together need a secret of the job: make one with `(umask 077; openssl rand -hex "
                f"32 > job-secret)` and name it on every machine in {FILE}"
            )
        text, where = _read(Path(environment[FILE])), f"{FILE}={environment[FILE]}"
    secret = text.strip()
    if len(secret) < MIN_CHARACTERS:
        raise FrameworkError(
            f"{where}: the secret has {len(secret)} characters, it needs {MIN_CHARACTERS} that nobody can guess: "
            "openssl rand -hex 32"
        )
    return secret.encode()


def _read(path: Path) -> str:
    try:
        with path.open("rb") as file:
            status = os.fstat(file.fileno())
            if not stat.S_ISREG(status.st_mode):
                raise FrameworkError(f"{FILE}={path} is no regular file")
            if status.st_mode & stat.S_IROTH:
                raise FrameworkError(f"{FILE}={path}: everybody on this machine may read it; chmod o-r {path}")
            return file.read(4096).decode("ascii")
    except (OSError, UnicodeDecodeError) as error:
        raise FrameworkError(f"{FILE}={path} cannot be read: {error}") from None
