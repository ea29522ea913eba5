"""`framework evaluate`: metrics of checkpoints or of plain images, each value with its protocol."""

from __future__ import annotations

import json as json_text
import sys
from contextlib import nullcontext, redirect_stdout
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

import tyro

from framework.evaluation.errors import EvaluationError
from framework.evaluation.evaluate import evaluate as evaluate_images
from framework.evaluation.extractors.base import INCEPTION
from framework.evaluation.images import SampleSet, ShardImages, notes_on, open_images
from framework.evaluation.metrics import Metric, Settings, parse_metrics
from framework.evaluation.metrics.files import metrics_in_files
from framework.evaluation.models import EvaluationModels, open_models
from framework.evaluation.offline import Sampling, evaluate_checkpoint
from framework.evaluation.protocol import Record
from framework.evaluation.sweep import Sweep, write_figure
from framework.runtime.session import Session, open_session
from framework.sampling.classes import network_classes
from framework.sampling.latents import SMALLEST_TRUNCATION
from framework.tracking.records import FIGURES
from framework.utils.errors import FrameworkError
from framework.utils.flags import OptionalLocalPath
from framework.utils.ranges import Range

_SOME_FAILED, _USUAL_METRIC = 1, "fid50k"


@dataclass(frozen=True, kw_only=True)
class EvaluateOptions:
    """The flags of `framework evaluate`."""

    metrics: str | None = None
    """Comma list, with counts: fid50k,kid,pr,dc,fid_by_class,is,ppl10k,lpips; fd, kd with other extractors. Default:
    fid50k, or those of --metric."""
    metric: Annotated[tuple[str, ...], tyro.conf.UseAppendAction] = ()
    """FILE.py:NAME of a metric of your own, a class or a metric, for example my_metric.py:ModesHit, or of a recipe that
    has metrics, for example recipes/gan_ring.py:RECIPE; imports the file. It is measured; in --metrics its name takes a
    count."""
    data: str | None = None
    """Real images for checkpoints: packed shards, or pictures in a folder (at any depth) or a .zip."""
    images: str | None = None
    """Images to judge instead of checkpoints: pictures in a folder or a .zip, an .npz of framework sample, or
    shards."""
    reference: str | None = None
    """Real images for --images; the same as --data."""
    extractor: str = INCEPTION
    """inception-v3-compat (FID), fashion_classifier (light), or one of torch-fidelity's."""
    extractor_weights: OptionalLocalPath = None
    """File of its weights (.safetensors, .pth); default: downloaded once."""
    lpips_weights: OptionalLocalPath = None
    """File of LPIPS's VGG16 and heads, for ppl and lpips."""
    weights: Literal["ema", "raw"] = "ema"
    """The moving average (ema), or the weights as they were last trained (raw)."""
    seed: Annotated[int, Range()] = 0
    """Seed of the latents and labels."""
    psi: Annotated[tuple[float, ...], Range()] = ()
    """Style-based generators: truncation; several values make a sweep."""
    truncation: Annotated[tuple[float, ...], Range(least=SMALLEST_TRUNCATION)] = ()
    """Redraw latent entries larger than this; several values make a sweep."""
    standing_statistics: Annotated[int, Range(least=0)] = 0
    """Recompute batch-norm statistics over so many batches first."""
    figure: OptionalLocalPath = None
    """Write the curve of a sweep of one checkpoint as .svg here, too (a run's own are in its figures/)."""
    reference_count: Annotated[int | None, Range(least=1)] = None
    """Use the first so many real images; default all."""
    kid_subsets: Annotated[int, Range(least=1)] = 100
    """Subsets that KID is averaged over."""
    kid_subset_size: Annotated[int, Range(least=2)] = 1000
    """Images in each; smaller sets are used whole."""
    held: Annotated[int, Range(least=1)] = 50_000
    """Keep features of at most so many images a side (KID, precision and recall, density and coverage)."""
    cache_folder: OptionalLocalPath = None
    """Folder of real statistics and downloads; default ~/.cache/framework/evaluation."""
    record: bool = True
    """Keep records beside the checkpoint and in the run's journal."""
    upload: bool = True
    """Bring them to the run's MLflow store at once."""
    network: Annotated[tuple[str, ...], tyro.conf.UseAppendAction] = ()
    """FILE.py:CLASS of a network class of your own, for example my_recipe.py:Generator; imports the file."""
    tracking_uri: str | None = None
    """MLflow store for runs:/... and models:/...; default: MLFLOW_TRACKING_URI, or runs/mlflow.db."""
    device: str = "auto"
    """auto, cpu or cuda."""
    json: bool = False
    """Print JSON on stdout, and nothing else there."""
    progress: bool = True
    """Show on standard error how far it is."""

    def settings(self) -> Settings:
        """Return the constants of the metrics."""
        return Settings(kid_subsets=self.kid_subsets, kid_subset_size=self.kid_subset_size, held=self.held)

    def chosen(self) -> list[Metric]:
        """Return the metrics of `--metrics` and `--metric`; imports the files of `--metric`.

        Raises:
            FrameworkError: an unknown name, or a file without such a metric.
        """
        own = metrics_in_files(self.metric)
        if self.metrics is None:
            return own or parse_metrics(_USUAL_METRIC)
        named = parse_metrics(self.metrics, own=own)
        return named + [metric for metric in own if metric.name not in {one.name for one in named}]

    def sampling(self) -> Sampling:
        """Return how images of a checkpoint are drawn, at no truncation yet; imports the files of `--network`."""
        return Sampling(
            averaged=self.weights == "ema",
            seed=self.seed,
            standing_statistics=self.standing_statistics,
            classes=network_classes(self.network),
        )


@dataclass(frozen=True, kw_only=True)
class _Measurement:
    """The means by which all images of one command are measured."""

    options: EvaluateOptions
    metrics: list[Metric]
    models: EvaluationModels
    session: Session
    sweep: Sweep

    def arguments(self) -> dict[str, Any]:
        """Return the arguments that `evaluate` and `evaluate_checkpoint` share."""
        return {
            "metrics": self.metrics,
            "models": self.models,
            "session": self.session,
            "settings": self.options.settings(),
            "reference_count": self.options.reference_count,
            "cache_folder": self.options.cache_folder,
            "progress": self.options.progress,
        }


def evaluate(
    checkpoints: Annotated[tuple[str, ...], tyro.conf.Positional] = (),
    *,
    options: Annotated[EvaluateOptions, tyro.conf.arg(name="")],
) -> int:
    """Measure checkpoints against a real set, or one set of images against another.

    Under `accelerate launch -m framework evaluate ...` or `torchrun -m framework evaluate ...` the processes share the
    work; values do not depend on their number. What was measured before under the same protocol is not measured again:
    records are kept in evaluation.json beside each checkpoint, and go to the run's journal and MLflow run.

    Args:
        checkpoints: Checkpoint folders, run folders (their newest checkpoint), runs:/<MLflow run> or models:/...
        options: How to measure.
    """
    metrics = options.chosen()
    real = _one_reference(options, checkpoints=checkpoints, metrics=metrics)
    sweep = Sweep.of(psi=options.psi, truncation=options.truncation)
    sweep.check(figure=options.figure, num_checkpoints=len(checkpoints), metrics=metrics)
    options.settings()  # refuses bad numbers before anything is opened

    # Whatever a library prints goes to stderr: stdout is the result's.
    quiet = redirect_stdout(sys.stderr) if options.json else nullcontext()
    with quiet, open_session(device=options.device) as session:
        models = open_models(
            metrics,
            session=session,
            extractor=options.extractor,
            weights=options.extractor_weights,
            lpips_weights=options.lpips_weights,
            cache_folder=options.cache_folder,
        )
        measurement = _Measurement(options=options, metrics=metrics, models=models, session=session, sweep=sweep)
        sampling = options.sampling()
        found: dict[str, list[Record]]
        failed: list[str]
        if options.images is not None:
            found, failed = {"": _images(options.images, real, measurement)}, []
        else:
            found, failed = _checkpoints(checkpoints, real, sampling, measurement)
        is_main = session.is_main

    if is_main:
        _print(found, failed, json=options.json)
        if options.figure is not None:
            write_figure(options.figure, found, sweep=sweep)
    return _SOME_FAILED if failed else 0


def _images(images: str, real: str | None, measurement: _Measurement) -> list[Record]:
    """Return the records of plain images; says which files are not looked at."""
    judged = open_images(images)
    against = None if real is None else _real(real, judged)
    for note in notes_on(judged, against) if measurement.session.is_main else ():
        print(note, file=sys.stderr)
    return evaluate_images(judged, against, subject={"images": images}, **measurement.arguments())


def _one_reference(options: EvaluateOptions, *, checkpoints: tuple[str, ...], metrics: list[Metric]) -> str | None:
    """Return the location of the real images, from either of its two flags; None where no metric needs them."""
    data, reference, images = options.data, options.reference, options.images
    if bool(checkpoints) == (images is not None):
        raise EvaluationError("give checkpoints to evaluate, or --images FOLDER: one of them")
    if data is not None and reference is not None and data != reference:
        raise EvaluationError("--data and --reference are the same thing, the real images: give one of them")
    if images is not None and data is not None:
        reference = reference or data
    chosen = data or reference
    needy = [metric.name for metric in metrics if metric.compares_with_real]
    if chosen is None and needy:
        raise EvaluationError(f"{needy[0]} compares with real images: give {'--reference' if images else '--data'}")
    return chosen


def _real(location: str, judged: SampleSet) -> SampleSet:
    """Open the real set; its labels are read only where the judged images have as many classes."""
    real = open_images(location)
    if isinstance(real, ShardImages) and real.classes != judged.classes:
        return open_images(location, classes=0)
    return real


def _checkpoints(
    checkpoints: tuple[str, ...], real: str | None, sampling: Sampling, measurement: _Measurement
) -> tuple[dict[str, list[Record]], list[str]]:
    """Return records by checkpoint (and by truncation in a sweep), and what went wrong with other checkpoints."""
    found: dict[str, list[Record]] = {}
    failed: list[str] = []
    options, session, sweep = measurement.options, measurement.session, measurement.sweep
    for checkpoint in checkpoints:
        # Every truncation of the sweep; a single one where there is no sweep.
        measured: dict[str, list[Record]] = {}
        for place in sweep.places:
            title = f"{checkpoint} {place.title}".strip() if len(checkpoints) > 1 else place.title
            try:
                measured[place.title], notes = evaluate_checkpoint(
                    checkpoint,
                    real,
                    sampling=sampling.at(place.psi, place.truncation),
                    tracking_uri=options.tracking_uri,
                    record=options.record,
                    **measurement.arguments(),
                )
            except FrameworkError as error:  # one damaged checkpoint must not cost the others their evaluation
                if len(checkpoints) == 1:
                    raise
                failed.append(f"{checkpoint}: {error}")
                break
            found[title] = measured[place.title]
            for note in notes if session.is_main else ():
                print(note, file=sys.stderr)

        # The run shows what was measured, also where a later checkpoint fails.
        if options.record and session.is_main:
            if len(measured) == len(sweep.places) and sweep.is_drawable(measurement.metrics):
                _draw_in_run(measured, sweep)
            if options.upload:
                _upload(checkpoint)
        session.barrier()
    return found, failed


def _draw_in_run(measured: dict[str, list[Record]], sweep: Sweep) -> None:
    """Draw the figure of a sweep in the checkpoint's run, where its sample grids are, too."""
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
