"""`framework review [RUN ...]`: runs in MLflow's pages, with a small server of our own, or as one HTML file."""

import contextlib
import os
import shlex
import shutil
import signal
import tempfile
import threading
import webbrowser
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro
from rich.console import Console

from framework.commands.sync import upload_now
from framework.review import read_run, write_game, write_report
from framework.tracking.cursor import Cursor
from framework.tracking.destination import is_chosen
from framework.tracking.environment import URI, reachable
from framework.tracking.lock import WRITER_LOCK_NAME, writer_is_alive
from framework.tracking.names import check_model_name
from framework.tracking.records import JOURNAL_NAME, last_start
from framework.tracking.server import free_port, mlflow_server
from framework.tracking.uri import check_uri, embedded_uri, sqlite_path
from framework.utils.errors import FrameworkError
from framework.utils.flags import LocalPaths, OptionalLocalPath
from framework.utils.ranges import Range

# Without it a fresh browser opens MLflow's pages for language models.
_WORKFLOW = "workflowType=machine_learning"


@dataclass(frozen=True, kw_only=True)
class _Run:
    folder: Path
    uri: str


def review(
    targets: Annotated[LocalPaths, tyro.conf.Positional] = (Path("runs"),),
    *,
    out: OptionalLocalPath = None,
    game: OptionalLocalPath = None,
    open_: Annotated[bool, tyro.conf.arg(name="open")] = False,
    register: str | None = None,
    by: str = "fid",
    port: Annotated[int, Range(least=1, most=65_535)] = 5000,
    browser: bool = True,
) -> None:
    """Open MLflow on runs until Ctrl-C; with --out, write one HTML page about them instead.

    Runs in a local SQLite file get a server of their own; for runs in a remote store the links are printed. The page
    of --out is self-contained: it needs no server and no network, only the run folders, and shows up to 8 runs side by
    side.

    Args:
        targets: Run folders, or folders that hold several.
        out: HTML file to write.
        game: File to write the recorded games of runs on points to: .html with a slider, side by side, or .png with
            six frames of one run.
        open_: With --out or --game: open the file in a browser.
        register: Name in MLflow's model registry: add the run's best checkpoint as its newest version, alias `best`.
        by: With --register: the metric that decides, with its protocol where there are several (fid50k-1a2b3c4d).
        port: First port to try on 127.0.0.1.
        browser: Open MLflow's page in a browser.
    """
    console = Console(highlight=False, soft_wrap=True, markup=False)
    if register is not None:
        check_model_name(register, what="--register")
    if sum(one is not None for one in (out, game, register)) > 1:
        raise FrameworkError("--out and --game write a page, --register adds a model to MLflow: give one of them")
    if open_ and out is None and game is None:
        raise FrameworkError("--open belongs to --out; MLflow's page opens by itself (--no-browser keeps it closed)")

    if out is not None:
        _told(console, write_report(out, [read_run(folder) for folder in run_folders(*targets)]), show=open_)
        return
    if game is not None:
        _told(console, write_game(game, run_folders(*targets)), show=open_)
        return
    runs = find_runs(*targets)
    if register is not None:
        _register(console, runs, name=register, by=by)
        return
    uri = _common_uri(runs)
    database = sqlite_path(uri)
    if database is None:
        # A store named only by a run folder, which may be anybody's, is printed but not opened.
        ours = all(is_chosen(run.uri, run_folder=run.folder) for run in runs)
        _show(console, runs, url=uri.rstrip("/"), browser=browser and ours)
        return
    _catch_up(console, runs)
    _serve(console, runs, database, port=port, browser=browser)


def _told(console: Console, page: Path, *, show: bool) -> None:
    """Print which file was written and how large it is, and open it if that is wanted."""
    console.print(f"{page} ({page.stat().st_size / 1e6:.1f} MB)")
    if show:
        webbrowser.open(page.resolve().as_uri())


def _serve(console: Console, runs: list[_Run], database: Path, *, port: int, browser: bool) -> None:
    """Run MLflow's server on a local database until Ctrl-C.

    Raises:
        FrameworkError: the database is not there.
    """
    if not database.is_file():
        raise FrameworkError(
            f"{database} is not there (moved?): make it again from the journals with "
            f"{_sync('RUN', '--rebuild', '--uri', embedded_uri(runs[0].folder.parent))}"
        )
    chosen = free_port(port)
    if chosen != port:
        console.print(f"port {port} is taken by another program: using {chosen}")

    # The server is in a session of its own: a closed terminal or a plain kill must end it as Ctrl-C does.
    for sign in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(sign, signal.default_int_handler)
    with contextlib.suppress(KeyboardInterrupt), contextlib.ExitStack() as stack:
        with console.status("starting MLflow (10 to 60 s)"):
            log = stack.enter_context(_server_log(database.parent))
            url = stack.enter_context(mlflow_server(database, port=chosen, log=log))
        _show(console, runs, url=url, browser=browser)
        console.print("Ctrl-C ends it.")
        threading.Event().wait()


@contextlib.contextmanager
def _server_log(folder: Path) -> Iterator[Path]:
    """Yield a place for the log: beside the database, or in a temporary folder where that is not writable.

    The temporary folder is removed after the block, except where the server failed and the log is to be read.
    """
    log = folder / "mlflow-server.log"
    if os.access(log if log.exists() else folder, os.W_OK):
        yield log
        return
    temporary, is_wanted = Path(tempfile.mkdtemp(prefix="framework-review-")), False
    try:
        yield temporary / log.name
    except FrameworkError:  # its message names the log
        is_wanted = True
        raise
    finally:
        if not is_wanted:
            shutil.rmtree(temporary)


def run_folders(*targets: Path) -> list[Path]:
    """Return the run folders at `targets`, each a run folder or a folder of run folders; each once, in order.

    Raises:
        FrameworkError: there is no run at one of the targets.
    """
    found: list[Path] = []
    for target in targets:
        folder = target.resolve()
        inside = sorted(path.parent for path in folder.glob(f"*/{JOURNAL_NAME}"))
        folders = [folder] if (folder / JOURNAL_NAME).is_file() else inside
        if not folders:
            raise FrameworkError(
                f"{folder} holds no {JOURNAL_NAME}, nor does a folder in it: give a run or a folder of runs"
            )
        found += folders
    return list(dict.fromkeys(found))


def find_runs(*targets: Path) -> list[_Run]:
    """Return the runs at `targets` that were trained with MLflow.

    Raises:
        FrameworkError: no run was trained with MLflow.
    """
    folders = run_folders(*targets)
    runs = [_Run(folder=folder, uri=check_uri(uri)) for folder in folders if (uri := _uri_of(folder))]
    if not runs:
        raise FrameworkError(
            f"{folders[0]} was trained without MLflow: upload it first with "
            f"{_sync(str(folders[0]), '--uri', embedded_uri(folders[0].parent))}, "
            "or write a page with --out report.html"
        )
    return runs


def _sync(*words: str) -> str:
    """Return a `framework sync` command to paste into a shell."""
    return shlex.join(["framework", "sync", *words])


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


def _register(console: Console, runs: list[_Run], *, name: str, by: str) -> None:
    if len(runs) != 1:
        raise FrameworkError(f"--register takes the best checkpoint of one run, these are {len(runs)}: give one")
    from framework.tracking.registry import register_best  # imports mlflow

    if not is_chosen(runs[0].uri, run_folder=runs[0].folder):
        raise FrameworkError(
            f"--register {name}: the run names {runs[0].uri}, which anybody may have written: set {URI} "
            "to it if that is where the model shall go"
        )
    run = _Run(folder=runs[0].folder, uri=reachable(runs[0].uri))
    _catch_up(console, [run])
    version = register_best(run.folder, uri=run.uri, name=name, by=by)
    console.print(
        f"{name} version {version.number}: checkpoint {version.images:,} images, {version.score.chart} = "
        f"{version.score.value:g}\n{shlex.join(['framework', 'sample', f'models:/{name}/{version.number}'])}"
    )


def _common_uri(runs: list[_Run]) -> str:
    uris = {run.uri for run in runs}
    if len(uris) > 1:
        listed = "\n".join(f"  {run.folder}: {run.uri}" for run in runs)
        raise FrameworkError(f"these runs are in different MLflow stores; give one of them:\n{listed}")
    return uris.pop()


def _catch_up(console: Console, runs: list[_Run]) -> None:
    """Upload what a killed trainer left behind; a run in training is served by its own process."""
    for run in runs:
        cursor = Cursor.load(run.folder, uri=run.uri)
        size_bytes = (run.folder / JOURNAL_NAME).stat().st_size
        sent = min(cursor.points.offset_bytes, cursor.files.offset_bytes) >= size_bytes and cursor.status != "RUNNING"
        if (sent and not cursor.models_are_behind(run.folder)) or writer_is_alive(run.folder / WRITER_LOCK_NAME):
            continue
        if not is_chosen(run.uri, run_folder=run.folder):
            console.print(f"{run.folder} is not wholly in MLflow: {_sync(str(run.folder), '--uri', run.uri)}")
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
