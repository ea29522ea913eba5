"""Weights of extractors come from a file the user gives; those of FID's Inception from torch-fidelity's release, too.

A downloaded file must have the checksum in its published name. Whatever the format, no code in a file is executed.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from torch import Tensor

from framework.data import sources
from framework.data.fetch import FetchOptions, fetch
from framework.data.manifest import file_sha256
from framework.evaluation.errors import EvaluationError, MissingError
from framework.interop.files import read_file
from framework.runtime.collectives import from_main
from framework.runtime.session import Session
from framework.utils.atomic import replacing
from framework.utils.errors import FrameworkError

INCEPTION_URL = (
    "https://github.com/toshas/torch-fidelity/releases/download/v0.2.0/weights-inception-2015-12-05-6726825d.pth"
)
_PATIENCE = FetchOptions(stall_seconds=20.0, deadline_seconds=900.0, retries=1)


@dataclass(frozen=True, kw_only=True)
class Weights:
    """Tensors by name, and the SHA-256 of the file they came from."""

    state: Mapping[str, Tensor]
    sha256: str


def default_cache_folder() -> Path:
    """Return `$XDG_CACHE_HOME/framework/evaluation`, or the same under `~/.cache`: beside the shards."""
    return sources.default_cache_folder().with_name("evaluation")


def load_weights(path: Path, *, containing: str) -> Weights:
    """Read the state dict in a file (`.safetensors`, `.pth`, `.npz`) that has a tensor of this name.

    Raises:
        EvaluationError: the file holds no such tensor.
        FrameworkError: there is no such file, or it is not a file of weights.
    """
    for state in read_file(path).states.values():
        if containing in state:
            return Weights(state=state, sha256=file_sha256(path))
    raise EvaluationError(f"{path}: holds no tensor {containing}; these are weights of another network")


def inception_weights(path: Path | None, *, session: Session, cache_folder: Path | None = None) -> Weights:
    """Return FID's weights on every rank; rank 0 alone reads or downloads them. A collective.

    Args:
        path: file of the weights; None takes the cached download, or downloads.
        cache_folder: folder of downloads; see `default_cache_folder`.

    Raises:
        MissingError: no path was given and the download failed.
        FrameworkError: the given file cannot be used.
    """

    def read() -> Weights:
        file = path or downloaded(INCEPTION_URL, folder=cache_folder or default_cache_folder())
        return load_weights(Path(file), containing="Conv2d_1a_3x3.conv.weight")

    return shared(read, session=session)


def shared(read: Callable[[], Weights], *, session: Session) -> Weights:
    """Read weights on rank 0 and return them on every rank; an error is raised on every rank, too. A collective.

    Raises:
        MissingError: `read` raised it.
        FrameworkError, OSError: rank 0's own error; other ranks raise `EvaluationError`.
    """
    found, error = None, None
    if session.is_main:
        try:
            found = read()
        except (FrameworkError, OSError) as problem:
            error = problem
    told = session.broadcast_text(f"{type(error).__name__}:{error}" if error else "")
    if told:
        kind, _, text = told.partition(":")
        raise MissingError(text) if kind == MissingError.__name__ else (error or EvaluationError(text))
    state = from_main(session, found.state if found else None)
    return Weights(state=state, sha256=session.broadcast_text(found.sha256 if found else None))


def downloaded(url: str, *, folder: Path, options: FetchOptions = _PATIENCE) -> Path:
    """Return the local copy of a file whose name ends in the beginning of its SHA-256; fetch it when it is not there.

    Several processes may do this at once: each writes a file of its own and renames it.

    Raises:
        MissingError: the address is not reachable, or the bytes are not those that the name promises.
    """
    name = url.rpartition("/")[2]
    target, promised = folder / name, name.rpartition("-")[2].partition(".")[0]
    if target.is_file() and file_sha256(target).startswith(promised):
        return target

    def check(num_bytes: int, sha256: str) -> str | None:
        if sha256.startswith(promised):
            return None
        return f"{num_bytes} bytes with sha256 {sha256[:16]}..., it must begin with {promised}"

    try:
        with replacing(target) as temporary, temporary.open("wb") as file:
            fetch(url, file, options=options, check=check)
    except (FrameworkError, OSError) as error:
        raise MissingError(
            f"the Inception weights are not here and could not be fetched ({error}); fetch {url} where there is a "
            "network and pass the file with --extractor-weights"
        ) from None
    return target
