"""Statistics of real sets, cached by content: computed once for a set, an extractor and a count.

A file's name is the hash of what its content depends on; it is written under a temporary name and renamed, so any
number of runs may write and read at once. Safetensors: nothing is unpickled. A damaged file is computed again.
"""

from __future__ import annotations

import hashlib
import json
import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from framework.checkpoint.tensorfile import read_flat, read_header, save_tensors
from framework.evaluation.extract import Extract, Needs, extract
from framework.evaluation.extractors.base import Extractor
from framework.evaluation.images import SampleSet
from framework.evaluation.moments import Moments
from framework.evaluation.protocol import versions
from framework.runtime.collectives import from_main
from framework.runtime.session import Session
from framework.utils.bounded import decoding, open_regular
from framework.utils.errors import FrameworkError

log = logging.getLogger(__name__)


def real_statistics(
    images: SampleSet,
    extractor: Extractor,
    needs: Needs,
    *,
    session: Session,
    cache_folder: Path,
    shown_as: str = "",
) -> Extract:
    """Return what `extract` would return, without computing again what the cache holds. A collective.

    Only rank 0 reads and writes the cache; a damaged file is computed again.

    Raises:
        FrameworkError: an image cannot be read, on any rank.
        MissingError: moments by class would not fit into memory.
    """
    # All ranks must agree on what is computed: rank 0 says what it has found.
    pieces = _pieces(needs)
    paths = {piece: cache_folder / f"{_key(images, extractor, piece)}.safetensors" for piece in pieces}
    cached = {piece: found for piece in pieces if session.is_main and (found := read(paths[piece], piece)) is not None}
    known = json.loads(session.broadcast_text(json.dumps(sorted(cached))))
    wanted = _needs({p: pieces[p] for p in pieces if p not in known})
    computed = extract(images, extractor, wanted, session=session, shown_as=shown_as)

    # New pieces go into the cache, cached ones to the other ranks.
    result = Extract()
    for piece, count in pieces.items():
        if piece not in known:
            tensors = _tensors(computed, piece, count)
            if session.is_main:
                write(paths[piece], tensors, about={"piece": piece, **_identity(images, extractor)})
        else:
            tensors = from_main(session, cached.get(piece))
        _fill(result, piece, count, tensors)
    return result


def read(path: Path, piece: str) -> dict[str, Tensor] | None:
    """Return the tensors of a cache file by name; None when it does not exist, is damaged or holds another piece.

    They are `features` (n, D) float32, or `count` (k,) int64, `sum` (k, D) and `outer` (k, D, D) float64 of k moments.
    """
    try:
        with open_regular(path) as file, decoding(path):
            entries, _ = read_header(file)
            tensors = {name: torch.empty(entry.shape, dtype=entry.dtype) for name, entry in entries.items()}
            for name, entry in entries.items():
                read_flat(file.fileno(), entry, 0, tensors[name].view(-1))
        _check(tensors, piece, path)
    except FileNotFoundError:
        return None
    except (OSError, FrameworkError) as error:
        log.warning("%s is damaged (%s): computed again", path, error)
        return None
    return tensors


def _check(tensors: Mapping[str, Tensor], piece: str, path: Path) -> None:
    """Raise `FrameworkError` unless the tensors are what `write` would have written for this piece."""
    shapes = {name: tuple(tensor.shape) for name, tensor in tensors.items()}
    if piece.startswith("features-"):
        fits = shapes.keys() == {"features"} and len(shapes["features"]) == 2
    else:
        rows, width = (*shapes.get("sum", ()), 0, 0)[:2]
        fits = shapes == {"count": (rows,), "sum": (rows, width), "outer": (rows, width, width)}
        fits = fits and tensors["count"].dtype == torch.int64 and (rows == 1 or piece.startswith("classes-"))
    if not fits or not all(tensor.isfinite().all() for tensor in tensors.values()):
        raise FrameworkError(f"{path} holds {shapes}, which is no {piece}")


def write(path: Path, tensors: Mapping[str, Tensor], *, about: Mapping[str, Any]) -> None:
    """Write a cache file atomically. A full disk costs the cache and not the evaluation: it is only logged.

    Args:
        tensors: `features` (n, D), or the moments `count` (k,), `sum` (k, D) and `outer` (k, D, D); see `read`.
        about: what the tensors depend on, for readers of the file.
    """
    try:
        save_tensors(path, tensors, metadata={"about": json.dumps(about)})
    except OSError as error:
        log.warning("%s could not be written (%s): the statistics will be computed again next time", path, error)


def _identity(images: SampleSet, extractor: Extractor) -> dict[str, Any]:
    identity = extractor.identity
    return {
        "images": dict(images.describe()),
        "classes": images.classes,
        "extractor": [identity.name, identity.layer, identity.input, identity.tensors_sha256],
        "versions": versions(),
    }


def _key(images: SampleSet, extractor: Extractor, piece: str) -> str:
    text = json.dumps([piece, _identity(images, extractor)], sort_keys=True)
    return f"{piece}-{hashlib.sha256(text.encode()).hexdigest()[:32]}"


def _pieces(needs: Needs) -> dict[str, int]:
    """Return the number of images of every piece of the cache, by its name."""
    pieces = {f"moments-{count}": count for count in sorted(needs.moments)}
    pieces |= {f"classes-{needs.by_class}": needs.by_class} if needs.by_class else {}
    return pieces | ({f"features-{needs.held}": needs.held} if needs.held else {})


def _needs(pieces: Mapping[str, int]) -> Needs:
    def of(kind: str) -> list[int]:
        return [count for piece, count in pieces.items() if piece.startswith(f"{kind}-")]

    return Needs(
        moments=frozenset(of("moments")), by_class=max(of("classes"), default=0), held=max(of("features"), default=0)
    )


def _tensors(found: Extract, piece: str, count: int) -> dict[str, Tensor]:
    if piece.startswith("features-"):
        assert found.features is not None
        return {"features": found.features}
    several = found.by_class if piece.startswith("classes-") else [found.moments[count]]
    return {
        "count": torch.tensor([m.count for m in several]),
        "sum": torch.stack([m.sum for m in several]),
        "outer": torch.stack([m.outer for m in several]),
    }


def _fill(result: Extract, piece: str, count: int, tensors: Mapping[str, Tensor]) -> None:
    if piece.startswith("features-"):
        result.features = tensors["features"]
        return
    rows = zip(tensors["count"].tolist(), tensors["sum"], tensors["outer"], strict=True)
    moments = [Moments(count=n, sum=s, outer=o) for n, s, o in rows]
    if piece.startswith("classes-"):
        result.by_class = moments
    else:
        result.moments[count] = moments[0]
