"""Packs pictures of many kinds, or a table, into WebDataset shards with indexes and a manifest: `framework pack`.

The same input gives the same bytes: one global shuffle by seed, fixed encoder settings, USTAR headers without dates or
names, and results in order for any number of workers. The data set appears whole or not at all (see `pack_shards`).

    train-000000.tar  train-000000.idx  ...  manifest.json          one resolution
    r004/ r008/ ...   manifest.json                                 several, with the same keys in the same shards
"""

from __future__ import annotations

import os
import warnings
from collections import deque
from collections.abc import Generator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack, closing
from pathlib import Path
from typing import Any

from framework.data.errors import DataError
from framework.data.manifest import MANIFEST_NAME, Manifest, load_manifest, load_resolutions
from framework.data.packing.build import Build, write_manifests
from framework.data.packing.images import Encoded, encode_sample, encoder_versions
from framework.data.packing.options import PackOptions
from framework.data.packing.planning import Plan, make_plan
from framework.data.packing.staging import Staging, foreign_file, restore_interrupted
from framework.data.readers import BadImageError, Source, is_table, open_source
from framework.data.readers.pairs import open_paired, split_aligned
from framework.utils.progress import show_progress

__all__ = ["BadImagesError", "PackOptions", "pack"]


class BadImagesError(DataError):
    """Some pictures cannot be used, and nothing was published; `bad` lists them as (picture, reason)."""

    def __init__(self, bad: list[tuple[str, str]], total: int) -> None:
        self.bad = bad
        lines = "".join(f"\n  {name}: {reason}" for name, reason in bad)
        super().__init__(
            f"{len(bad)} of {total} pictures cannot be used; mend or remove them, or leave them out with skip_bad "
            f"(--skip-bad):{lines}"
        )


def pack(
    source: str | os.PathLike[str],
    out: str | os.PathLike[str],
    *,
    notice: str = "",
    overwrite: bool = False,
    workers: int | None = None,
    progress: bool = True,
    **options: Any,
) -> Manifest:
    """Pack pictures into WebDataset shards, and return the manifest; with several resolutions, that of the largest.

    Args:
        source: folder (sub-folders are classes), zip, npz (`images`, `labels`), idx file or folder, or tars; with
            `fields`, a folder that has a sub-folder for each of them; or a table of numbers, `.csv` or `.tsv`.
        out: folder of the data set; appears when everything in it is complete.
        notice: text of the file `NOTICE` beside the shards (licence, copyright).
        overwrite: replace another data set at `out`; other folders are never replaced.
        workers: number of threads that decode and encode; default one per core. It does not change the result.
        progress: show on standard error how far it is.
        options: fields of `PackOptions`.

    Raises:
        BadImagesError: some pictures cannot be used; all of them are listed.
        DataError: source or options do not fit, `out` holds something else, or it cannot be written.
    """
    settings, target = PackOptions(**options), Path(out).resolve()
    if Path(source).resolve() == target:
        raise DataError(f"{out}: is the source itself; choose another folder")
    restore_interrupted(target)
    with closing(_open(source, settings)) as pictures:
        plan = make_plan(pictures, settings, notice=notice)
        found = _existing(target, plan, overwrite=overwrite)
        if found is not None:
            return found
        try:
            return _pack(pictures, plan, settings, target, notice=notice, workers=workers, progress=progress)
        except OSError as error:
            raise DataError(f"{error.filename or out}: cannot be written ({error.strerror or error})") from error


def _open(source: str | os.PathLike[str], options: PackOptions) -> Source:
    """Return the pictures of a location, those of each sample together."""
    if options.fields and not options.aligned and not is_table(source):
        return open_paired(Path(source), options.folders or options.fields)
    found = open_source(source, split=options.split, labels=options.labels, label_column=options.label_column)
    return split_aligned(found, len(options.fields)) if options.aligned else found


def _pack(
    pictures: Source,
    plan: Plan,
    options: PackOptions,
    out: Path,
    *,
    notice: str,
    workers: int | None,
    progress: bool,
) -> Manifest:
    edition = f"{plan.request} {pictures.modified_ns} {encoder_versions(plan.target.encoding)}"
    with Staging(out, request=edition) as staging:
        build = Build(staging, plan, options)
        _run(build, pictures, workers=workers or os.cpu_count() or 1, progress=progress)
        if build.bad and not options.skip_bad:
            staging.discard()
            raise BadImagesError(build.bad, len(plan.order))
        if (lack := build.lack()) is not None:
            staging.discard()
            raise DataError(f"{pictures.kind} {pictures.name!r}: {lack} ({len(build.bad)} pictures left out)")
        manifest = write_manifests(build, pictures, notice=notice)
        staging.publish()
    return manifest


def _existing(out: Path, plan: Plan, *, overwrite: bool) -> Manifest | None:
    """Return the data set at `out` if it is the one asked for, None if the place is free; refuse anything else."""
    if not out.exists() or (out.is_dir() and not any(out.iterdir())):
        return None
    if not (out / MANIFEST_NAME).is_file():
        raise DataError(f"{out}: exists, but is no data set (no {MANIFEST_NAME}); choose another folder")
    resolutions = load_resolutions(out)
    manifest = load_manifest(out / resolutions[max(resolutions)] if resolutions else out)
    if overwrite:
        if (file := foreign_file(out)) is not None:
            raise DataError(f"{out}: {file.relative_to(out)} would be lost with the old data set; move it first")
        return None
    if manifest.source.get("request") == plan.request:
        return manifest
    raise DataError(
        f"{out}: already holds data set {manifest.name!r} ({manifest.count} images, {manifest.resolution} px), made "
        f"from other pictures or with other options; choose another folder, or replace it with overwrite (--overwrite)"
    )


def _run(build: Build, pictures: Source, *, workers: int, progress: bool) -> None:
    """Write every picture of the plan to the shards, or add it to the list of bad ones."""
    plan, total = build.plan, len(build.plan.order)
    bar = show_progress(f"packing {pictures.name}", total=total, done=build.position, enabled=progress)
    with ExitStack() as stack:
        stack.enter_context(warnings.catch_warnings())
        warnings.filterwarnings("ignore", module=r"PIL\.")  # on odd EXIF and the like, without naming the file
        stack.enter_context(closing(build))
        advance = stack.enter_context(bar)
        results = stack.enter_context(closing(_encoded(build, pictures, workers=workers)))
        for index, result in results:
            if isinstance(result, BadImageError):
                build.refuse(pictures.names[index], str(result))
            elif build.bad and not build.options.skip_bad:
                build.position += 1  # nothing is written any more, but all bad pictures are listed
            else:
                build.add(result, None if plan.labels is None else int(plan.labels[index]))
            advance(1)
        if not build.bad or build.options.skip_bad:
            build.finish_shard()


def _encoded(
    build: Build, pictures: Source, *, workers: int
) -> Generator[tuple[int, tuple[Encoded, ...] | BadImageError], None, None]:
    """Yield (index, files or what is wrong) in the order of the plan; the number of pictures under way is bounded."""

    def work(index: int) -> tuple[Encoded, ...] | BadImageError:
        try:
            return encode_sample(pictures.parts(index), build.plan.targets)
        except BadImageError as error:
            return error

    waiting: deque[tuple[int, Future[tuple[Encoded, ...] | BadImageError]]] = deque()
    pool = ThreadPoolExecutor(workers, thread_name_prefix="pack")
    try:
        for index in build.plan.order[build.position :].tolist():
            waiting.append((index, pool.submit(work, index)))
            if len(waiting) > 8 * workers:
                first, future = waiting.popleft()
                yield first, future.result()
        for index, future in waiting:
            yield index, future.result()
    finally:
        pool.shutdown(cancel_futures=True)
