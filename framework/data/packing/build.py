"""Builds a data set: shards of all resolutions, cut at the same samples, and then the manifests."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from framework.data.errors import DataError
from framework.data.manifest import FieldEntry, Manifest, ShardEntry, save_manifest, save_resolutions
from framework.data.packing.images import Encoded, Target, encoder_versions
from framework.data.packing.options import PackOptions
from framework.data.packing.planning import Plan
from framework.data.packing.staging import END_MARK, NOTICE_NAME, ShardWriter, Staging, sample_bytes
from framework.data.readers import Source


class Build:
    """The shards being written, one per resolution, cut at the same samples; they follow the last finished ones."""

    def __init__(self, staging: Staging, plan: Plan, options: PackOptions) -> None:
        self.staging, self.plan, self.options = staging, plan, options
        done = staging.progress
        self.finished = [[ShardEntry(**entry) for entry in line["shards"]] for line in done]
        self.position: int = done[-1]["position"] if done else 0  # in plan.order
        self.bad: list[tuple[str, str]] = [(name, reason) for line in done for name, reason in line["bad"]]
        self.animated: int = done[-1].get("animated", 0) if done else 0
        self._check_progress()
        self.label_counts = np.zeros(plan.classes, np.int64)
        for line in done:
            self.label_counts += np.asarray(line["label_counts"], np.int64)
        self.key = sum(shards[0].count for shards in self.finished)
        self._open: list[ShardWriter] = []
        self._recorded_bad, self._recorded_counts = len(self.bad), self.label_counts.copy()

    def _check_progress(self) -> None:
        """Raise DataError if what an earlier run left, though whole, does not lead to this plan."""
        num_samples = num_bad = 0
        for number, line in enumerate(self.staging.progress):
            folders = [folder.relative_to(self.staging.path) for folder in self.folders().values()]
            names = [str(folder / f"{self.options.split}-{number:06d}.tar") for folder in folders]
            counts = {entry.count for entry in self.finished[number]}
            num_samples += max(counts, default=0)
            num_bad += len(line["bad"])
            if (
                [name for name in line["files"] if name.endswith(".tar")] != names
                or len(counts) != 1
                or line["position"] != num_samples + num_bad
                or num_samples + num_bad > len(self.plan.order)
                or len(line["label_counts"]) != self.plan.classes
                or sum(line["label_counts"]) != (counts.pop() if self.plan.classes else 0)
            ):
                raise DataError(
                    f"{self.staging.path}: shard {number} of an earlier run does not fit this one; remove the folder"
                )

    def folders(self) -> dict[int, Path]:
        """Return resolution -> folder of its shards."""
        sides = self.plan.target.sides
        return {side: self.staging.path / (f"r{side:03d}" if len(sides) > 1 else "") for side in sides}

    def refuse(self, name: str, reason: str) -> None:
        """Leave a picture out, and note why."""
        self.bad.append((name, reason))
        self.position += 1

    def add(self, pictures: Sequence[Encoded], label: int | None) -> None:
        """Append one sample, its pictures in the order of the plan, to the shard of each resolution."""
        head = [] if label is None else [("cls", str(label).encode())]
        extensions = [target.extension for target in self.plan.targets]
        by_side = zip(*(picture.files for picture in pictures), strict=True)
        samples = [[*head, *zip(extensions, files, strict=True)] for files in by_side]
        if self._open and self._is_full(samples):
            self.finish_shard()
        if not self._open:
            number = len(self.finished)
            for folder in self.folders().values():
                folder.mkdir(exist_ok=True)
                self._open.append(ShardWriter(folder / f"{self.options.split}-{number:06d}.tar"))
        for writer, sample in zip(self._open, samples, strict=True):
            writer.add(f"{self.key:09d}", sample)
        if label is not None:
            self.label_counts[label] += 1
        self.animated += any(picture.animated for picture in pictures)
        self.key += 1
        self.position += 1

    def _is_full(self, samples: list[list[tuple[str, bytes]]]) -> bool:
        limit = self.options.shard_bytes
        if len(self._open[0].samples) == self.options.shard_samples:
            return True
        pairs = zip(self._open, samples, strict=True)
        return any(writer.size + sample_bytes(sample) + len(END_MARK) > limit for writer, sample in pairs)

    def finish_shard(self) -> None:
        """Close the open shards and record that; after a kill, the next run continues from here."""
        if not self._open:
            return
        entries = [(writer.path, writer.finish()) for writer in self._open]
        self.staging.record(
            shards=entries,
            position=self.position,
            bad=self.bad[self._recorded_bad :],
            label_counts=(self.label_counts - self._recorded_counts).tolist(),
            animated=self.animated,
        )
        self.finished.append([entry for _, entry in entries])
        self._open, self._recorded_bad, self._recorded_counts = [], len(self.bad), self.label_counts.copy()

    def lack(self) -> str | None:
        """Return what the data set lacks because too many pictures were left out, or None."""
        if not self.finished:
            return f"none of {len(self.bad)} pictures can be used"
        missing = [name for name, count in zip(self.plan.class_names, self.label_counts, strict=True) if not count]
        return f"no usable picture is left of class {missing[0]!r}" if missing else None

    def close(self) -> None:
        """Close open files, finished or not."""
        for writer in self._open:
            writer.close()


def write_manifests(build: Build, pictures: Source, *, notice: str) -> Manifest:
    """Write the manifests of all resolutions, and return that of the largest."""
    plan, options = build.plan, build.options
    folders = build.folders()
    manifests = {
        side: Manifest(
            name=options.name or pictures.name,
            split=options.split,
            resolution=side,
            channels=plan.target.channels,
            shards=tuple(shards[number] for shards in build.finished),
            classes=plan.classes,
            class_names=plan.class_names,
            label_counts=tuple(build.label_counts.tolist()),
            encoding=plan.target.encoding,
            resize_filter=_filter(plan, side),
            crop=plan.target.crop if plan.target.resize and plan.target.pad is None else "none",
            seed=options.seed or 0,
            source=_provenance(build, pictures),
            fields=tuple(_entry(target, side) for target in plan.targets if target.field),
        )
        for number, side in enumerate(plan.target.sides)
    }
    # One manifest per resolution, and a parent that names their folders.
    for side, manifest in manifests.items():
        save_manifest(manifest, folders[side])
    if len(folders) > 1:
        save_resolutions({side: folder.name for side, folder in folders.items()}, build.staging.path)
    if notice:
        (build.staging.path / NOTICE_NAME).write_text(notice.rstrip("\n") + "\n", "utf-8")
    return manifests[max(manifests)]


def _entry(target: Target, side: int) -> FieldEntry:
    """Return what the manifest of a resolution says of a field."""
    height, width = target.shape or (side, side)
    return FieldEntry(name=target.field, kind=target.kind, height=height, width=width, channels=target.channels)


def _filter(plan: Plan, side: int) -> str:
    if side != plan.target.sides[-1]:
        return plan.target.pyramid_filter
    return plan.target.resize_filter if plan.target.resize else "none"


def _provenance(build: Build, pictures: Source) -> dict[str, Any]:
    """Return the origin of the pictures, and what was done to them beyond the manifest's own fields."""
    options = build.options
    extra = {
        "per_class": options.per_class,
        "pad": options.pad,
        "animated": build.animated or None,
        "not_read": dict(pictures.ignored) or None,
    }
    return {
        "kind": pictures.kind,
        "name": pictures.name,
        "license": options.license,
        "images": len(pictures),
        "digest": pictures.digest,
        "order": "source" if options.seed is None else "shuffled",
        "skipped": len(build.bad),
        **{name: value for name, value in extra.items() if value is not None},
        "encoder": encoder_versions(build.plan.target.encoding),
        "request": build.plan.request,
    }
