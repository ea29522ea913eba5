"""`framework sync RUN`: bring a run's journal into MLflow, now or again."""

import subprocess
import sys
from pathlib import Path
from typing import Annotated, BinaryIO

import tyro
from rich.console import Console

from framework.tracking.cursor import TRACKING_FOLDER, Cursor
from framework.tracking.destination import destination
from framework.tracking.process import BUSY, COMPLETE, upload_command, upload_environment
from framework.tracking.records import JOURNAL_NAME, last_start
from framework.tracking.uri import check_uri
from framework.utils.errors import FrameworkError
from framework.utils.flags import LocalPath
from framework.utils.ranges import Range


def sync(
    run: Annotated[LocalPath, tyro.conf.Positional],
    *,
    uri: str | None = None,
    recorded: bool = False,
    rebuild: bool = False,
    patience_seconds: Annotated[float, Range(least=0, most=1e7)] = 60.0,
) -> None:
    """Upload what is not in MLflow yet: after a killed job, a dead server, or training without one.

    Safe at any time and any number of times: points keep their original times, and none is stored twice. A run whose
    trainer was killed gets the status FAILED and the tag framework.exit=unclean. Only files inside the run's folder are
    uploaded.

    Args:
        run: The run's folder (what --out was).
        uri: MLflow tracking URI; by default MLFLOW_TRACKING_URI, else the mlflow.db beside the run if it was trained
            with that, else the one it was last trained with, after a question.
        recorded: Take the URI that the run was last trained with, without a question.
        rebuild: Send everything again from the first record (another or emptied store, a run deleted by mistake).
        patience_seconds: How long to go on trying against a store that fails.
    """
    folder = run.resolve()
    chosen = destination(folder, given=uri, recorded=recorded, ask=_ask)
    cursor = upload_now(folder, uri=chosen, rebuild=rebuild, patience_seconds=patience_seconds)
    console = Console(highlight=False, soft_wrap=True, markup=False)
    console.print(f"{run} is complete in MLflow at {cursor.uri} (run {cursor.run_id}, {cursor.status})")
    if cursor.num_rejected:
        rejected = run / TRACKING_FOLDER / "rejected.jsonl"
        console.print(f"{cursor.num_rejected} records were refused for good; see {rejected}")


def upload_now(run: Path, *, uri: str, rebuild: bool = False, patience_seconds: float = 60.0) -> Cursor:
    """Run one upload in the foreground, to a URI that the user has chosen, and return where it stands.

    Raises:
        FrameworkError: there is no run, another upload is at work, or not everything could be sent.
    """
    run = run.resolve()
    uri = check_uri(uri)
    last_start(run / JOURNAL_NAME)
    options = ["--linger-seconds", str(patience_seconds), *(["--rebuild"] if rebuild else [])]
    log = run / TRACKING_FOLDER / "upload.log"
    with _opened(log) as output:
        code = subprocess.run(
            upload_command(run, *options),
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            cwd=log.parent,
            env=upload_environment(uri),
        ).returncode
    if code == BUSY:
        raise FrameworkError(f"{run} is being uploaded by another process (its training run?): nothing to do")
    cursor = Cursor.load(run, uri=uri)
    if code != COMPLETE:
        why = cursor.problem or f"the upload ended with code {code}"
        raise FrameworkError(
            f"not everything of {run} is in MLflow at {cursor.uri}: {why}. Nothing is lost; details in {log}. "
            "Mend the cause and run the same command again"
        )
    return cursor


def _ask(question: str) -> bool:
    """Ask the user at the terminal; return False where there is no terminal."""
    return sys.stdin.isatty() and input(f"{question} [y/N] ").strip().lower() in ("y", "yes")


def _opened(log: Path) -> BinaryIO:
    try:
        log.parent.mkdir(parents=True, exist_ok=True)
        return log.open("ab")
    except OSError as error:
        raise FrameworkError(
            f"{log} cannot be written ({error.strerror}): where an upload stands is kept in the run folder. Upload as "
            "an account that may write there, or upload a copy"
        ) from None
