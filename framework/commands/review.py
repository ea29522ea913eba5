"""`framework review [RUN or folder of runs]`: look at runs in MLflow's pages, with a small server of our own."""

import contextlib
import signal
import threading
import webbrowser
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro
from rich.console import Console

from framework.commands.sync import upload_now
from framework.errors import FrameworkError
from framework.tracking.cursor import Cursor
from framework.tracking.lock import WRITER_LOCK_NAME, writer_is_alive
from framework.tracking.records import JOURNAL_NAME, last_start
from framework.tracking.server import free_port, mlflow_server
from framework.tracking.uri import embedded_uri, sqlite_path

# Without it a fresh browser opens MLflow's pages for language models.
_WORKFLOW = "workflowType=machine_learning"


@dataclass(frozen=True, kw_only=True)
class _Run:
    folder: Path
    uri: str


def review(
    target: Annotated[Path, tyro.conf.Positional] = Path("runs"),
    *,
    port: int = 5000,
    browser: bool = True,
) -> None:
    """Open MLflow on a run, or on all runs of a folder, until Ctrl-C.

    Runs in a local SQLite file get a server of their own; for runs in a remote store the links are printed.

    Args:
        target: A run's folder, or the folder that holds several.
        port: First port to try on 127.0.0.1.
        browser: Open the page in a browser.
    """
    console = Console(highlight=False, soft_wrap=True, markup=False)
    runs = find_runs(target)
    uri = _common_uri(runs, target=target)
    database = sqlite_path(uri)
    if database is None:
        _show(console, runs, url=uri.rstrip("/"), browser=browser)
        return
    _catch_up(console, runs)
    if not database.is_file():
        raise FrameworkError(
            f"{database} is not there (moved?): make it again from the journals with "
            f"framework sync RUN --rebuild --uri {embedded_uri(target)}"
        )
    chosen = free_port(port)
    if chosen != port:
        console.print(f"port {port} is taken by another program: using {chosen}")
    # The server is in a session of its own: a closed terminal or a plain kill must end it as Ctrl-C does.
    for sign in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(sign, signal.default_int_handler)
    with contextlib.suppress(KeyboardInterrupt), contextlib.ExitStack() as stack:
        with console.status("starting MLflow (10 to 60 s)"):
            server = mlflow_server(database, port=chosen, log=database.parent / "mlflow-server.log")
            url = stack.enter_context(server)
        _show(console, runs, url=url, browser=browser)
        console.print("Ctrl-C ends it.")
        threading.Event().wait()


def find_runs(target: Path) -> list[_Run]:
    """Return the runs at `target`, a run folder or a folder of run folders, that were trained with MLflow.

    Raises:
        FrameworkError: there is none.
    """
    target = target.resolve()
    journals = (
        [target / JOURNAL_NAME] if (target / JOURNAL_NAME).is_file() else sorted(target.glob(f"*/{JOURNAL_NAME}"))
    )
    if not journals:
        raise FrameworkError(
            f"{target} holds no {JOURNAL_NAME}, nor does a folder in it: give a run or a folder of runs"
        )
    runs = [_Run(folder=journal.parent, uri=uri) for journal in journals if (uri := _uri_of(journal.parent))]
    if not runs:
        raise FrameworkError(
            f"{journals[0].parent} was trained without MLflow: upload it first with framework sync "
            f"{journals[0].parent} --uri {embedded_uri(target)}"
        )
    return runs


def links(run_folder: Path, *, uri: str, url: str) -> dict[str, str]:
    """Return the pages of a run's charts and images and of its experiment's comparison; empty before its upload."""
    cursor = Cursor.load(run_folder, uri=uri)
    if not cursor.run_id:
        return {}
    experiment = f"{url}/#/experiments/{cursor.experiment_id}/runs"
    return {
        "charts": f"{experiment}/{cursor.run_id}/model-metrics?{_WORKFLOW}",
        "compare": f"{experiment}?{_WORKFLOW}&compareRunsMode=CHART",
    }


def _uri_of(run_folder: Path) -> str | None:
    """Return where the run was uploaded to last: by training, or later by `framework sync --uri`."""
    uploads = sorted((run_folder / "tracking").glob("upload-*.json"), key=lambda path: path.stat().st_mtime)
    if uploads:
        return Cursor.read_uri(uploads[-1])
    return last_start(run_folder / JOURNAL_NAME)["uri"]


def _common_uri(runs: list[_Run], *, target: Path) -> str:
    uris = {run.uri for run in runs}
    if len(uris) > 1:
        listed = "\n".join(f"  {run.folder}: {run.uri}" for run in runs)
        raise FrameworkError(f"the runs in {target} are in different MLflow stores; give one of them:\n{listed}")
    return uris.pop()


def _catch_up(console: Console, runs: list[_Run]) -> None:
    """Upload what a killed trainer left behind; a run in training is served by its own process."""
    for run in runs:
        cursor = Cursor.load(run.folder, uri=run.uri)
        size_bytes = (run.folder / JOURNAL_NAME).stat().st_size
        done = min(cursor.points.offset_bytes, cursor.files.offset_bytes) >= size_bytes and cursor.status != "RUNNING"
        if done or writer_is_alive(run.folder / WRITER_LOCK_NAME):
            continue
        with console.status(f"uploading the rest of {run.folder.name}"):
            try:
                upload_now(run.folder, uri=run.uri)
            except FrameworkError as error:
                console.print(f"{error}")


def _show(console: Console, runs: list[_Run], *, url: str, browser: bool) -> None:
    found = [(run, pages) for run in runs if (pages := links(run.folder, uri=run.uri, url=url))]
    for run, pages in found:
        console.print(f"{run.folder.name}: {pages['charts']}")
    for page in sorted({pages["compare"] for _, pages in found}):
        console.print(f"compare runs: {page}")
    if not found:
        console.print(f"nothing uploaded yet: {url}")
    if browser:
        webbrowser.open(found[0][1]["charts"] if len(found) == 1 else found[0][1]["compare"] if found else url)
