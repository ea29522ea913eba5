"""The tracker, the object by which training code writes the journal without ever waiting for a server.

Wrong names and values raise `FrameworkError` (they show at the first step). A disk or a server that fails raises
nothing: it is logged and counted, and work goes on. MLflow is not imported here: `framework.tracking.upload` is its own
process.

After a resume the same steps come again, from the checkpoint on. They repeat what the journal already holds (the
trainer is exact), and MLflow cannot delete a point. So a metric or picture is written only beyond its own *high-water
mark*, the most images seen under that name so far: every step is there once, and a crash between two records of one
step still leaves the missing one to be written. When the recipe was changed in between (`--allow-change`), the points
up to the mark are those of the first attempt; the `resumed` record and the tag `framework.resumed_at` say where.
"""

import logging
import math
import shutil
import threading
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any, SupportsFloat

from framework.media.base import Media, Pixels
from framework.media.grids import PictureGrid
from framework.tracking.checkpoints import scores_from
from framework.tracking.cursor import Cursor
from framework.tracking.journal import Journal
from framework.tracking.launch import flat_params, start_fields
from framework.tracking.names import MOST_DATASET
from framework.tracking.process import UploadProcess
from framework.tracking.records import (
    HEALTH_STATES,
    PAGE_SUFFIX,
    PICTURE_SUFFIX,
    STATUSES,
    check_name,
    evaluation_mark,
    shown_mark,
)
from framework.tracking.shown import MediaWriter
from framework.tracking.uri import check_uri
from framework.utils.errors import FrameworkError
from framework.utils.redaction import redact_text

HOUSEKEEPING_SECONDS = 5.0
NONFINITE = "health/nonfinite"

_log = logging.getLogger(__name__)


class Tracker:
    """The tracker of one run, on rank 0: use `Tracker.open`. Other ranks use `null.NullTracker`.

    Attributes:
        journal: the journal that every record is written to.
        upload: the process that copies it into MLflow; None without one.
    """

    def __init__(self, journal: Journal, *, run_folder: Path, upload: UploadProcess | None) -> None:
        self.journal = journal
        self._run_folder = run_folder
        self.upload = upload
        self._shown = MediaWriter(run_folder, journal=journal)
        self._ended = False
        self._outcome: str | None = None
        self._stop = threading.Event()
        self._housekeeper = threading.Thread(target=self._keep_house, name="tracking-housekeeping", daemon=True)
        self._housekeeper.start()

    @classmethod
    def open(
        cls,
        run_folder: Path | str,
        *,
        uri: str | None,
        experiment: str,
        run_name: str,
        start_upload: bool = True,
    ) -> "Tracker":
        """Open the journal of a new or resumed run and start its upload process.

        Args:
            run_folder: the run's folder, made when absent. An existing journal is continued, as the same run in MLflow.
            uri: MLflow tracking URI (`sqlite:////abs/mlflow.db`, `http://host:5000`); None writes the journal only.
            experiment: MLflow experiment; made when absent. A resumed run stays in its own.
            run_name: the name in MLflow's list of runs. A resumed run keeps its own.
            start_upload: False leaves the upload to `framework sync`.

        Raises:
            FrameworkError: the URI cannot be used, the folder cannot be written, or another process is training in it.
        """
        run_folder = Path(run_folder).resolve()
        uri = check_uri(uri) if uri else None
        journal = Journal(run_folder)
        fields = start_fields(journal.state, experiment=experiment, run_name=run_name, uri=uri, run_folder=run_folder)
        if "copy_of" in fields:
            _log.warning("%s is a copy of a run that is still in its place: it continues as another run", run_folder)
            Cursor.forget(run_folder)
        journal.write("start", fields)
        upload = UploadProcess(run_folder, uri=uri) if uri and start_upload else None
        return cls(journal, run_folder=run_folder, upload=upload)

    @property
    def uid(self) -> str:
        """The run's identity, the same after every resume; MLflow holds it in the tag `framework.run_uid`."""
        return self.journal.state.start["uid"]

    @property
    def num_lost(self) -> int:
        """The number of records and images given up so far because the disk refused them."""
        return self.journal.num_dropped + self._shown.num_dropped

    def metrics(self, values: Mapping[str, SupportsFloat], *, images_seen: int) -> None:
        """Record scalars at `images_seen` (MLflow's step); one slash in a name groups charts: `loss/G`, `logits/real`.

        NaN and infinity are kept in the journal but not sent: MLflow would draw infinity as 1.8e308. Their number
        since the run began goes to `health/nonfinite` instead. Names already known at this step are left out.
        Tensors, of one element, are converted with `float`, which waits for the device: pass host numbers where that
        matters.

        Raises:
            FrameworkError: MLflow cannot take a name (see `records.check_name`).
        """
        marks = self.journal.state.high_water_images
        finite: dict[str, float] = {}
        nonfinite: dict[str, str] = {}
        # A resumed run repeats steps: keep what is new at this clock.
        for name, value in values.items():
            if images_seen <= marks.get(name, -1):
                continue
            if name not in marks:
                check_name(name)
            number = float(value)
            if math.isfinite(number):
                finite[name] = number
            else:
                nonfinite[name] = repr(number)
        # MLflow gets the number of values it cannot draw.
        if nonfinite and images_seen > marks.get(NONFINITE, -1):
            finite.setdefault(NONFINITE, float(self.journal.state.num_nonfinite + len(nonfinite)))
        if not finite and not nonfinite:
            return
        record = {"images": images_seen, "values": finite}
        self._write("metrics", record | {"nonfinite": nonfinite} if nonfinite else record)

    def params(self, values: Mapping[str, object]) -> None:
        """Record the main parameters; nested mappings become dotted names.

        MLflow's parameters cannot change. If one does (a resume with `--allow-change`), the first value stays and the
        new one goes to the tag `framework.changed.<name>`.

        Raises:
            FrameworkError: MLflow cannot take a name.
        """
        known = self.journal.state.params
        flat = {check_name(name): text for name, text in flat_params(values).items()}
        if new := {name: text for name, text in flat.items() if name not in known}:
            self._write("params", {"values": new})
        self.tags({f"framework.changed.{name}": text for name, text in flat.items() if known.get(name, text) != text})

    def tags(self, values: Mapping[str, object]) -> None:
        """Set tags; a later value replaces an earlier one.

        Raises:
            FrameworkError: MLflow cannot take a name.
        """
        known = self.journal.state.tags
        flat = {check_name(name): str(value) for name, value in values.items()}
        if new := {name: text for name, text in flat.items() if known.get(name) != text}:
            self._write("tags", {"values": new})

    def note(self, markdown: str) -> None:
        """Set the run's description, shown as Markdown on its overview page."""
        self.tags({"mlflow.note.content": markdown})

    def artifact(self, path: Path | str, *, folder: str = "") -> None:
        """Upload a file (as it is at upload time) into `folder` of the run's artifacts.

        A file outside the run folder is copied to `<run>/artifacts/<folder>/` first, so that a later sync finds it.

        Raises:
            FrameworkError: there is no such file, or MLflow cannot take the folder's name.
        """
        path = Path(path).resolve()
        if folder:
            check_name(folder)
        if not path.is_file():
            raise FrameworkError(f"{path} is no file: cannot log it as an artifact")
        if not path.is_relative_to(self._run_folder):
            target = self._run_folder / "artifacts" / folder / path.name
            try:
                target.parent.mkdir(parents=True, exist_ok=True)
                shutil.copyfile(path, target)
            except OSError as error:
                _log.warning("artifact %s is not logged: %s", path, error)
                return
            path = target
        self._write("artifact", {"file": path.relative_to(self._run_folder).as_posix(), "folder": folder})

    def show(self, key: str, media: Media, *, images_seen: int) -> None:
        """Draw and write `<run>/<key>-<images, 9 digits><suffix>` in a thread, and show it in MLflow at that step.

        Pictures and plots come on MLflow's step slider, sounds and pages among the run's artifacts.

        Args:
            key: `samples/ema`; the part before the slash is MLflow's section, and its folder of artifacts.
            media: a grid of pictures, a plot, sounds, a page, or your own class of them.
            images_seen: the clock. What the journal holds of the same key and this or a later clock stays.

        Raises:
            FrameworkError: MLflow cannot take the key, or files of this suffix are not shown.
        """
        if media.suffix not in (PICTURE_SUFFIX, PAGE_SUFFIX):
            raise FrameworkError(
                f"{type(media).__name__} saves {media.suffix!r} files: {PICTURE_SUFFIX} and {PAGE_SUFFIX} can be shown"
            )
        marks, mark = self.journal.state.high_water_images, shown_mark(check_name(key))
        if images_seen > marks.get(mark, -1) and not self._ended:
            self._shown.put(key, media, images_seen=images_seen)
            marks[mark] = images_seen

    def image(self, key: str, pixels: Pixels, *, images_seen: int) -> None:
        """Show one picture; see `show`.

        Args:
            key: `samples/ema`.
            pixels: uint8 `(H, W, 3)`, `(H, W, 1)` or `(H, W)`; copied.
            images_seen: the clock.

        Raises:
            FrameworkError: MLflow cannot take the key, or the pixels are no picture.
        """
        self.show(key, PictureGrid.of_pixels(pixels), images_seen=images_seen)

    def evaluation(self, records: Mapping[str, Any], *, images_seen: int) -> None:
        """Record evaluated metrics with their protocols; MLflow charts them as `metrics/<name>-<hash of protocol>`.

        Args:
            records: name -> `{"value": number or None, "protocol": {...}, ...}`, as in a checkpoint's evaluation.json.
            images_seen: the clock of the evaluated weights. What the journal already holds for it is left out.

        Raises:
            ValueError: a value is no finite number, or a protocol is no object.
        """
        marks = self.journal.state.high_water_images
        new = {name: r for name, r in records.items() if images_seen > marks.get(evaluation_mark(name, r), -1)}
        if new:
            self.metrics({score.chart: score.value for score in scores_from(new)}, images_seen=images_seen)
            self._write("evaluation", {"images": images_seen, "records": new})

    def health(self, sentinel: str, state: str, *, images_seen: int, reason: str = "", remedy: str = "") -> None:
        """Record a sentinel's state if it has changed; MLflow shows it as tags of the run.

        Args:
            sentinel: the name of the sentinel, `sign_saturation`.
            state: ok, warn or failing.
            images_seen: the clock.
            reason: the reason in words, with the number and its threshold.
            remedy: what usually helps.

        Raises:
            FrameworkError: an unknown state, or a name that MLflow cannot take.
        """
        if state not in HEALTH_STATES:
            raise FrameworkError(f"{state!r} is no state of health: use one of {', '.join(HEALTH_STATES)}")
        known = self.journal.state.health
        before = known.get(check_name(sentinel))
        if before != state:
            overall = max({**known, sentinel: state}.values(), key=HEALTH_STATES.index)
            fields = {"sentinel": sentinel, "state": state, "reason": reason, "remedy": remedy, "overall": overall}
            fields |= {"before": before} if before else {}
            self._write("health", {"images": images_seen, **fields})

    def dataset(self, name: str, *, digest: str, location: str, profile: Mapping[str, Any]) -> None:
        """Record the training data, MLflow's dataset of the run; 36 characters of `digest` identify its content.

        A name longer than MLflow takes is cut.
        """
        fields = {
            "name": name[:MOST_DATASET],
            "digest": digest[:36],
            "location": redact_text(location),
            "profile": dict(profile),
        }
        if fields != {key: self.journal.state.dataset.get(key) for key in fields}:
            self._write("dataset", fields)

    def resumed(self, *, images_seen: int) -> None:
        """Record that training goes on from the checkpoint at `images_seen`; steps that come again are written once."""
        self._goes_on("resumed", {"images": images_seen})

    def rolled_back(self, *, images_seen: int, from_images: int) -> None:
        """Record that training went back from `from_images` to the checkpoint at `images_seen`, with changed settings.

        Metrics and images up to the high-water mark stay those of the first attempt.
        """
        self._goes_on("rollback", {"images": images_seen, "from_images": from_images})

    def _goes_on(self, kind: str, fields: dict[str, int]) -> None:
        self._write(kind, fields)
        lineage = ["new", *self.journal.state.lineage]
        self.tags({"framework.resumed_at": fields["images"], "framework.lineage": " > ".join(lineage[-20:])})

    def flush(self, *, wait_seconds: float = 10.0) -> None:
        """Bring everything so far to the disk, images included; call it before a checkpoint counts as complete."""
        self._shown.flush(wait_seconds=wait_seconds)
        self.journal.sync()

    def finish(self, status: str, *, wait_seconds: float = 20.0) -> str | None:
        """End the run and give the upload `wait_seconds` to catch up.

        Args:
            status: FINISHED, FAILED (an error) or KILLED (stopped by a signal; may be resumed).

        Returns:
            None when all is in MLflow (or none was wanted), else one sentence that tells the user what to do.

        Raises:
            FrameworkError: an unknown status.
        """
        if status not in STATUSES:
            raise FrameworkError(f"{status!r} is no final status: use one of {', '.join(STATUSES)}")
        if self._ended:
            return self._outcome
        # Images first: each adds a record when its file is complete.
        deadline = time.monotonic() + wait_seconds
        self._shown.close(wait_seconds=wait_seconds)
        self._write("end", {"status": status})
        self._ended = True
        # The housekeeper would start the upload again.
        self._stop.set()
        self._housekeeper.join(timeout=_until(deadline))
        self.journal.close()
        # What is lost, and what is not in MLflow yet.
        sentences = []
        if num_lost := self.num_lost + self.journal.num_pending + self._shown.num_waiting:
            sentences.append(
                f"{num_lost} records or images are lost: {self._run_folder} did not take them (disk full?)."
            )
        if self.upload and (left := self.upload.finish(wait_seconds=_until(deadline))):
            sentences.append(left)
        self._outcome = " ".join(sentences) or None
        return self._outcome

    def _write(self, kind: str, fields: dict) -> None:
        if not self._ended:
            self.journal.write(kind, fields)

    def _keep_house(self) -> None:
        while not self._stop.wait(HOUSEKEEPING_SECONDS):
            self.journal.sync()
            if self.upload:
                self.upload.ensure_running()


def _until(deadline: float) -> float:
    return max(0.1, deadline - time.monotonic())
