"""Copies of images under MLflow's own file names, so that its run page shows them with a step slider.

MLflow writes `images/<key, / as ~>+step+<S>+timestamp+<T>+<uuid>.png` and a `...+compressed.webp` next to it, at most
256 px wide, which is too small for a grid; ours is larger, and small pixels are repeated instead of blurred. The
naming is not a documented interface, so a test compares it with the code of a real server.
"""

import os
import shutil
from pathlib import Path

from PIL import Image

from framework.tracking.records import Record
from framework.utils.bounded import open_regular
from framework.utils.pictures import opened

PREVIEW_PIXELS = 768
ARTIFACT_FOLDER = "images"

_WEBP_QUALITY = 85
_MOST_NAME_BYTES = 255


def mlflow_names(record: Record) -> tuple[str, str]:
    """Return the file names of the full image and of its preview for an `image` record.

    Raises:
        ValueError: the names would be no plain file names, or longer than a file system takes.
    """
    key = record["key"].replace("/", "~")
    stem = f"{key}+step+{record['images']}+timestamp+{record['time_ms']}+{record['token']}"
    names = f"{stem}.png", f"{stem}+compressed.webp"
    if "/" in stem or "\0" in stem or len(os.fsencode(names[1])) > _MOST_NAME_BYTES:
        raise ValueError(f"an image record of which MLflow's file name would be {stem[:300]!r}")
    return names


def stage(source: Path, names: tuple[str, str], *, folder: Path) -> list[Path]:
    """Put both files of an image into `folder` under MLflow's names and return them, the image first.

    Raises:
        FileNotFoundError: the image is gone.
        FrameworkError: it is no image any more, or has more pixels than one of ours may have.
    """
    full, preview = (folder / name for name in names)
    with open_regular(source) as file, opened(file, source=source) as image:
        small = make_preview(image if image.mode in ("L", "RGB") else image.convert("RGB"))
    try:
        os.link(source, full)
    except FileNotFoundError:
        raise
    except OSError:  # another file system, or one without hard links
        shutil.copyfile(source, full)
    small.save(preview, format="WEBP", quality=_WEBP_QUALITY)
    return [full, preview]


def make_preview(image: Image.Image) -> Image.Image:
    """Return the image with its longer side at most `PREVIEW_PIXELS`, small ones enlarged by a whole factor."""
    longer = max(image.size)
    if longer > PREVIEW_PIXELS:
        ratio = PREVIEW_PIXELS / longer
        size = (max(1, round(image.width * ratio)), max(1, round(image.height * ratio)))
        return image.resize(size, Image.Resampling.LANCZOS)
    factor = max(1, PREVIEW_PIXELS // longer)
    return image.resize((image.width * factor, image.height * factor), Image.Resampling.NEAREST)
