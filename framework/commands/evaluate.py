"""`framework evaluate`: FID and its relatives for checkpoints or for plain images, each value with its protocol."""

from __future__ import annotations

import json as json_text
import sys
from contextlib import nullcontext, redirect_stdout
from pathlib import Path
from typing import Annotated, Literal

import tyro

from framework.errors import FrameworkError
from framework.evaluation.errors import EvaluationError
from framework.evaluation.evaluate import evaluate as evaluate_images
from framework.evaluation.extractors.base import INCEPTION
from framework.evaluation.images import ImageSet, ShardImages, notes_on, open_images
from framework.evaluation.metrics import Metric, Settings, parse_metrics
from framework.evaluation.offline import Sampling, evaluate_checkpoint
from framework.evaluation.protocol import Record
from framework.evaluation.sweep import Sweep, write_figure
from framework.evaluation.tools import open_tools
from framework.flags import OptionalLocalPath
from framework.ranges import Range
from framework.runtime.session import Session, open_session
from framework.sampling.classes import network_classes
from framework.sampling.latents import SMALLEST_TRUNCATION
from framework.tracking.records import FIGURES

_SOME_FAILED = 1


def evaluate(
    checkpoints: Annotated[tuple[str, ...], tyro.conf.Positional] = (),
    *,
    metrics: str = "fid50k",
    data: str | None = None,
    images: str | None = None,
    reference: str | None = None,
    extractor: str = INCEPTION,
    extractor_weights: OptionalLocalPath = None,
    lpips_weights: OptionalLocalPath = None,
    weights: Literal["ema", "raw"] = "ema",
    seed: Annotated[int, Range()] = 0,
    psi: Annotated[tuple[float, ...], Range()] = (),
    truncation: Annotated[tuple[float, ...], Range(least=SMALLEST_TRUNCATION)] = (),
    standing_statistics: Annotated[int, Range(least=0)] = 0,
    figure: OptionalLocalPath = None,
    reference_count: Annotated[int | None, Range(least=1)] = None,
    kid_subsets: Annotated[int, Range(least=1)] = 100,
    kid_subset_size: Annotated[int, Range(least=2)] = 1000,
    held: Annotated[int, Range(least=1)] = 50_000,
    cache_folder: OptionalLocalPath = None,
    record: bool = True,
    upload: bool = True,
    network: Annotated[tuple[str, ...], tyro.conf.UseAppendAction] = (),
    tracking_uri: str | None = None,
    device: str = "auto",
    json: bool = False,
    progress: bool = True,
) -> int:
    """Measure checkpoints against a real set, or one set of images against another.

    Under `accelerate launch -m framework evaluate ...` or `torchrun -m framework evaluate ...` the processes share the
    work; values do not depend on their number. What was measured before under the same protocol is not measured again:
    records are kept in evaluation.json beside each checkpoint, and go to the run's journal and MLflow run.

    Args:
        checkpoints: Checkpoint folders, run folders (their newest checkpoint), runs:/<MLflow run> or models:/...
        metrics: Comma list, with counts: fid50k,kid,pr,dc,fid_by_class,is,ppl10k,lpips; fd, kd with other extractors.
        data: Real images for checkpoints: packed shards, or pictures in a folder (at any depth) or a .zip.
        images: Images to judge instead of checkpoints: pictures in a folder or a .zip, an .npz of framework sample, or
            shards.
        reference: Real images for --images; the same as --data.
        extractor: inception-v3-compat (FID), fashion_classifier (light), or one of torch-fidelity's.
        extractor_weights: File of its weights (.safetensors, .pth); default: downloaded once.
        lpips_weights: File of LPIPS's VGG16 and heads, for ppl and lpips.
        weights: The moving average (ema), or the weights as they were last trained (raw).
        seed: Of the latents and labels.
        psi: Style-based generators: truncation; several values make a sweep.
        truncation: Redraw latent entries larger than this; several values make a sweep.
        standing_statistics: Recompute batch-norm statistics over so many batches first.
        figure: With a sweep of one checkpoint: write the curve as .svg here, too (a run's own are in its figures/).
        reference_count: Use the first so many real images; default all.
        kid_subsets: Subsets that KID is averaged over.
        kid_subset_size: Images in each; smaller sets are used whole.
        held: Keep features of at most so many images a side (KID, precision and recall, density and coverage).
        cache_folder: Of real statistics and downloads; default ~/.cache/framework/evaluation.
        record: Keep records beside the checkpoint and in the run's journal.
        upload: Bring them to the run's MLflow store at once.
        network: FILE.py:CLASS of a network class of your own, for example my_recipe.py:Generator; imports the file.
        tracking_uri: MLflow store for runs:/... and models:/...; default: MLFLOW_TRACKING_URI, or runs/mlflow.db.
        device: auto, cpu or cuda.
        json: Print JSON on stdout, and nothing else there.
        progress: Show on standard error how far it is.
    """
    wanted = parse_metrics(metrics)
    real = _one_reference(data, reference, checkpoints=checkpoints, images=images, metrics=wanted)
    sweep = Sweep.of(psi=psi, truncation=truncation)
    sweep.check(figure=figure, num_checkpoints=len(checkpoints), metrics=wanted)
    settings = Settings(kid_subsets=kid_subsets, kid_subset_size=kid_subset_size, held=held)
    # Whatever a library prints goes to stderr: stdout is the result's.
    with redirect_stdout(sys.stderr) if json else nullcontext(), open_session(device=device) as session:
        tools = open_tools(
            wanted,
            session=session,
            extractor=extractor,
            weights=extractor_weights,
            lpips_weights=lpips_weights,
            cache_folder=cache_folder,
        )
        common = {"metrics": wanted, "tools": tools, "session": session, "settings": settings}
        common |= {"reference_count": reference_count, "cache_folder": cache_folder, "progress": progress}
        classes = network_classes(network)
        if images is not None:
            judged = open_images(images)
            against = None if real is None else _real(real, judged)
            for note in notes_on(judged, against) if session.is_main else ():
                print(note, file=sys.stderr)
            found = {"": evaluate_images(judged, against, subject={"images": images}, **common)}  # type: ignore[arg-type]
            failed: list[str] = []
        else:
            sampling = Sampling(
                averaged=weights == "ema", seed=seed, standing_statistics=standing_statistics, classes=classes
            )
            found, failed = _checkpoints(checkpoints, real, sampling, sweep, tracking_uri, record, upload, common)
        is_main = session.is_main
    if is_main:
        _print(found, failed, json=json)
        if figure is not None:
            write_figure(figure, found, sweep=sweep)
    return _SOME_FAILED if failed else 0


def _one_reference(
    data: str | None, reference: str | None, *, checkpoints: tuple[str, ...], images: str | None, metrics: list[Metric]
) -> str | None:
    if bool(checkpoints) == (images is not None):
        raise EvaluationError("give checkpoints to evaluate, or --images FOLDER: one of them")
    if data is not None and reference is not None and data != reference:
        raise EvaluationError("--data and --reference are the same thing, the real images: give one of them")
    if images is not None and data is not None:
        reference = reference or data
    chosen = data or reference
    needy = [metric.kind for metric in metrics if metric.definition.real]
    if chosen is None and needy:
        raise EvaluationError(f"{needy[0]} compares with real images: give {'--reference' if images else '--data'}")
    return chosen


def _real(location: str, judged: ImageSet) -> ImageSet:
    """The real set; its labels are read only where the judged images have as many classes."""
    real = open_images(location)
    if isinstance(real, ShardImages) and real.classes != judged.classes:
        return open_images(location, classes=0)
    return real


def _checkpoints(
    checkpoints: tuple[str, ...],
    real: str | None,
    sampling: Sampling,
    sweep: Sweep,
    tracking_uri: str | None,
    record: bool,
    upload: bool,
    common: dict,
) -> tuple[dict[str, list[Record]], list[str]]:
    """Records by checkpoint (and by truncation in a sweep), and what went wrong with others."""
    found: dict[str, list[Record]] = {}
    failed: list[str] = []
    session: Session = common["session"]
    for checkpoint in checkpoints:
        measured: dict[str, list[Record]] = {}
        for place in sweep.places:
            title = f"{checkpoint} {place.title}".strip() if len(checkpoints) > 1 else place.title
            try:
                measured[place.title], notes = evaluate_checkpoint(
                    checkpoint,
                    real,
                    sampling=sampling.at(place.psi, place.truncation),
                    tracking_uri=tracking_uri,
                    record=record,
                    **common,
                )
            except FrameworkError as error:  # one damaged checkpoint must not cost the others their evaluation
                if len(checkpoints) == 1:
                    raise
                failed.append(f"{checkpoint}: {error}")
                break
            found[title] = measured[place.title]
            for note in notes if session.is_main else ():
                print(note, file=sys.stderr)
        if record and session.is_main:
            if len(measured) == len(sweep.places) and sweep.is_drawable(common["metrics"]):
                _draw_in_run(measured, sweep)
            if upload:
                _upload(checkpoint)
        session.barrier()
    return found, failed


def _draw_in_run(measured: dict[str, list[Record]], sweep: Sweep) -> None:
    """The figure of a sweep belongs to the run, as its grids do."""
    from framework.evaluation.journal import run_of, show_in_run

    subject = measured[sweep.places[0].title][0].subject
    run = run_of(Path(subject["checkpoint"]))
    if run is None:
        return
    path = run / FIGURES / f"{sweep.axis}-{subject['images_seen']:09d}.svg"
    try:
        before = path.read_bytes() if path.exists() else None
        if write_figure(path, measured, sweep=sweep).read_bytes() != before:
            show_in_run(path)
    except (FrameworkError, OSError) as error:  # what was measured is kept and printed all the same
        print(f"{path} is not drawn: {error}", file=sys.stderr)


def _upload(checkpoint: str) -> None:
    """Bring the journal of the checkpoint's run to its MLflow store, if it has both."""
    from framework.commands.sync import upload_now
    from framework.evaluation.journal import run_of, store_of
    from framework.tracking.destination import destination

    run = run_of(Path(checkpoint))
    if run is None or store_of(run) is None:
        return
    try:
        upload_now(run, uri=destination(run, given=None))
    except FrameworkError as error:
        print(f"not brought to MLflow: {error}", file=sys.stderr)


def _print(found: dict[str, list[Record]], failed: list[str], *, json: bool) -> None:
    for text in failed:
        print(text, file=sys.stderr)
    if json:
        shown = {title: {record.name: record.to_json() for record in records} for title, records in found.items()}
        print(json_text.dumps(shown[""] if list(shown) == [""] else shown, indent=1, allow_nan=False))
        return
    for title, records in found.items():
        if title:
            print(title)
        for record in records:
            value = f"missing: {record.missing}" if record.value is None else f"{record.value:.6g}"
            std = f" ± {record.details['std']:.2g}" if "std" in record.details else ""
            print(f"  {record.name:<28} {value}{std}   protocol {record.protocol.hash}")
