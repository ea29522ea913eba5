"""`framework pack SOURCE OUT`: pictures, or a table of numbers -> WebDataset shards."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Annotated

import tyro
from rich.console import Console

from framework.data.pack import PackOptions
from framework.data.pack import pack as pack_pictures
from framework.data.readers.files import in_words
from framework.utils.errors import FrameworkError
from framework.utils.flags import LocalPath, OptionalLocalPath
from framework.utils.ranges import Range


def pack(
    source: tyro.conf.Positional[str],
    out: tyro.conf.Positional[LocalPath],
    options: Annotated[PackOptions, tyro.conf.arg(name="")],
    *,
    notice: OptionalLocalPath = None,
    overwrite: bool = False,
    workers: Annotated[int | None, Range(least=1)] = None,
    progress: bool = True,
) -> None:
    """Pack pictures, or a table of numbers, into WebDataset shards with an index each and a manifest.

    The same pictures and options give the same bytes. The data set appears when it is complete; the same command
    after an interruption goes on where it stood, and does nothing when there is nothing left to do.

    Args:
        source: A folder of pictures (sub-folders are classes), a .zip of the same layout, an .npz with `images` and
            `labels`, an idx file or a folder of them (MNIST family), or .tar shards: a folder, a glob, a brace list.
            With --fields, a folder with a sub-folder for each field, whose files have equal names. Or a table of
            numbers, .csv or .tsv, whose lines become vectors: the field `point`, or that of --fields.
        out: Folder of the data set.
        options: What is made of the pictures.
        notice: Text file to put beside the shards as NOTICE (licence, copyright).
        overwrite: Replace another data set standing there.
        workers: Threads that decode and encode; default one per core. Does not change the result.
        progress: Show how far it is.
    """
    text = _read_notice(notice) if notice else ""
    manifest = pack_pictures(
        source, out, notice=text, overwrite=overwrite, workers=workers, progress=progress, **vars(options)
    )
    made = manifest.source
    size = sum(shard.bytes for shard in manifest.shards)
    say = partial(Console(highlight=False).print, soft_wrap=True, markup=False)
    what = f"images {manifest.resolution}x{manifest.resolution}x{manifest.channels} as {manifest.encoding}"
    if manifest.fields:
        what = f"samples of {', '.join(each.form for each in manifest.fields)}"
    say(
        f"{out}: {manifest.count:,} {what}, {manifest.classes} classes, {len(manifest.shards)} shards, "
        f"{size / 1e6:,.1f} MB" + (f", {made['skipped']} pictures left out" if made["skipped"] else "")
    )
    if made.get("animated"):
        say(f"{made['animated']:,} with several frames or pages, of which the first was taken")
    if made.get("not_read"):
        say(f"not read, because no picture's suffix: {in_words(made['not_read'])}")


def _read_notice(path: Path) -> str:
    try:
        return path.read_text("utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise FrameworkError(f"notice {path}: cannot be read ({error})") from None
