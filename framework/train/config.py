"""The operational flags of every recipe file: how and where a recipe runs.

Science lives in the recipe; one generic `--set path=value` reaches it. This list is meant to stay short.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, Literal

import tyro
from tyro.constructors import PrimitiveConstructorSpec

from framework.engines.base import Precision
from framework.evaluation.extractors.base import INCEPTION
from framework.evaluation.metrics import FeatureMetric, Metric, checked_metrics, parse_metrics
from framework.recipe import EngineName
from framework.runtime.health import OnCollapse
from framework.tracking.environment import Wishes, wishes
from framework.tracking.names import check_experiment, check_run_name
from framework.utils.errors import FrameworkError
from framework.utils.flags import OptionalLocalPath
from framework.utils.quantities import parse_count
from framework.utils.ranges import Range, check_flags


def _count(arguments: list[str]) -> int:
    return parse_count(arguments[0])


_COUNT = PrimitiveConstructorSpec(
    nargs=1,
    metavar="COUNT",
    instance_from_str=_count,
    is_instance=lambda value: value is None or isinstance(value, int),
    str_from_instance=lambda value: [str(value)],
)
Count = Annotated[int, _COUNT]
"""An integer that may be written `200k` or `1.5M`."""
OptionalCount = Annotated[int | None, _COUNT]
"""A `Count`, or None where the flag is not given."""


@dataclass(frozen=True, kw_only=True)
class Flags:
    """Operational flags. Counts may be written 20k or 1.5M."""

    out: OptionalLocalPath = None
    """Run folder; the same command again resumes from it. Default: runs/<recipe name>."""
    images: Annotated[OptionalCount, Range(least=1)] = None
    """Train until this many real images have been seen. Default: the recipe's."""
    batch_size: Annotated[OptionalCount, Range(least=1, most=1e9)] = None
    """Global batch size (science: changes the result). Default: the recipe's."""
    seed: Annotated[int | None, Range()] = None
    """Seed of initialisation, data order and latents (science). Default: the recipe's."""
    micro_batches: Annotated[int | None, Range(least=1)] = None
    """Gradient accumulation: cut each global batch into so many parts to save memory. Default: as launched
    (`accelerate launch --gradient_accumulation_steps`), else 1."""
    auto_micro_batch: bool = False
    """Choose --micro-batches per phase so that the estimated memory fits; never fewer than given."""
    init_from: OptionalLocalPath = None
    """Begin a new run with the networks of this checkpoint, run folder or import (transfer learning)."""
    engine: EngineName | None = None
    """How players are spread over processes. Default: as launched (`accelerate launch --use_fsdp`, `--use_deepspeed`),
    else ddp."""
    precision: Precision | None = None
    """Precision of forward passes; parameters stay fp32. Default: as launched (`accelerate launch --mixed_precision`),
    else fp32."""
    device: Literal["auto", "cpu", "cuda"] = "auto"
    """Where to compute."""
    data: str | None = None
    """Where this machine keeps the recipe's data: folder, shard list, http(s):// or pipe:."""
    workers: Annotated[int, Range(least=0)] = 2
    """Decoding workers per process."""
    cache_folder: OptionalLocalPath = None
    """Where remote shards are kept, shared by the processes of a node. Default: a folder in the user's cache."""
    cache_gb: Annotated[float, Range(above=0, most=1e9)] = 50.0
    """Largest size of that cache in GB."""
    on_bad_sample: Literal["error", "skip"] = "error"
    """Stop at a damaged sample, or count, log and replace it."""
    record_keys: bool = False
    """Write the keys of all consumed samples to <out>/keys (an audit)."""
    log_every_images: Annotated[Count, Range(least=0)] = 2_000
    """Period of the status line and of metrics."""
    sample_every_images: Annotated[Count, Range(least=0)] = 20_000
    """Period of the sample grid of the averaged generator. 0: only first and last, and a game of points (two numbers a
    sample) is not recorded as <out>/game.html."""
    save_every_images: Annotated[Count, Range(least=0)] = 50_000
    """Period of checkpoints; one is always written at the end and when stopped by a signal."""
    keep_last: Annotated[int, Range(least=1)] = 3
    """Number of newest checkpoints to keep."""
    keep_every_images: Annotated[OptionalCount, Range(least=1)] = None
    """Also keep the checkpoints at multiples of this."""
    keep_best: Annotated[int, Range(least=0)] = 0
    """Also keep so many checkpoints with the lowest first distance of --eval-metrics."""
    eval_every_images: Annotated[OptionalCount, Range(least=1)] = None
    """Measure the averaged generator against the training data, and save; also at the end. Default: never."""
    eval_metrics: str | None = None
    """Metrics, as in `framework evaluate`: fid10k,kid10k,pr10k, or the recipe's own. Default: the recipe's own, else
    fid10k; with another extractor fd10k."""
    eval_extractor: str = INCEPTION
    """Feature extractor: inception-v3-compat (FID), fashion_classifier (light), or one of torch-fidelity's."""
    eval_extractor_weights: OptionalLocalPath = None
    """File of its weights (.safetensors, .pth). Default: downloaded once; if that fails, the metrics are missing."""
    most_skipped_steps: Annotated[int, Range(least=1)] = 20
    """This many steps in a row with a non-finite loss or gradient are a collapse, with `warn` also the end."""
    on_collapse: OnCollapse = "warn"
    """When a sentinel is failing: say so, go back to a sound checkpoint with other data and half the learning rate, or
    stop."""
    most_rollbacks: Annotated[int, Range(least=1)] = 3
    """Largest number of rollbacks; the next collapse ends the run."""
    stall_seconds: Annotated[float, Range(least=1, most=1e7)] = 600.0
    """Seconds without progress until the process at fault is named and the launch ends; longer than any step."""
    tracking: str | None = None
    """MLflow tracking URI; `default`: a database beside the run folder; `none`: no MLflow (the journal stays). Default:
    MLFLOW_TRACKING_URI, else the run's own from its last launch, else `default`."""
    experiment: str | None = None
    """MLflow experiment of a new run. Default: MLFLOW_EXPERIMENT_NAME, else the recipe's name."""
    run_name: str | None = None
    """MLflow run name of a new run. Default: MLFLOW_RUN_NAME, else the run folder's name."""
    allow_change: bool = False
    """Resume although the recipe's science differs from the checkpoint's."""
    dry_run: bool = False
    """Print the resolved recipe, parameter counts and a memory estimate; write nothing."""
    json: bool = False
    """Print JSON; belongs to --dry-run."""
    set: Annotated[tuple[str, ...], tyro.conf.UseAppendAction, tyro.conf.arg(metavar="PATH=VALUE")] = field(default=())
    """Change one leaf of the recipe, e.g. generator.optimizer.lr=2e-4; may be repeated."""

    def metrics(self, of_recipe: Iterable[object] = ()) -> list[Metric]:
        """Return the metrics that --eval-metrics names; by default those of the recipe, or the Frechet distance.

        Args:
            of_recipe: the recipe's metrics, which may be named, too.

        Raises:
            FrameworkError: an unknown name, or a metric of the recipe that is none.
        """
        own = checked_metrics(of_recipe, place="metrics of the recipe")
        default = "fid10k" if self.eval_extractor == INCEPTION else "fd10k"
        if own and self.eval_metrics is None:
            return own
        try:
            return parse_metrics(default if self.eval_metrics is None else self.eval_metrics, own=own)
        except FrameworkError as error:
            raise FrameworkError(str(error).replace("--metrics", "--eval-metrics")) from None

    def wishes(self) -> Wishes:
        """Return where the run shall be tracked and under which names.

        Raises:
            FrameworkError: a value that MLflow does not take; the message names the flag or variable.
        """
        return wishes(tracking=self.tracking, experiment=self.experiment, run_name=self.run_name)

    def run_folder(self, recipe_name: str) -> Path:
        """Return the folder of the run: `--out`, or `runs/` and the recipe's name."""
        return (self.out or Path("runs") / recipe_name).resolve()

    @property
    def cache_options(self) -> dict[str, Any]:
        """Where downloaded shards are kept, as `open_source` and `Stream` take it: the folder and the bytes at most."""
        return {"cache_folder": self.cache_folder, "cache_bytes": int(self.cache_gb * 1e9)}

    def names(self, recipe_name: str) -> tuple[str, str]:
        """Return MLflow's names of experiment and run: the flags', else the recipe's and the folder's names.

        Raises:
            FrameworkError: a name that MLflow does not take.
        """
        wished = self.wishes()
        experiment, run_name = wished.experiment, wished.run_name
        if experiment is None:
            experiment = check_experiment(recipe_name, what="--experiment, by default the recipe's name,")
        if run_name is None:
            run_name = check_run_name(
                self.run_folder(recipe_name).name, what="--run-name, by default the run folder's name,"
            )
        return experiment, run_name

    def check(self, of_recipe: Iterable[object] = ()) -> None:
        """Refuse values that could not work, before any process waits for another.

        Args:
            of_recipe: the recipe's metrics.

        Raises:
            FrameworkError: a value out of range or against another flag; the message names the flag.
        """
        check_flags(RunConfig, vars(self))
        self._check_evaluation(of_recipe)
        if self.json and not self.dry_run:
            raise FrameworkError("--json belongs to --dry-run")
        if self.out is not None and self.out == Path():
            raise FrameworkError("--out: give a folder for the run, for example runs/a")
        if self.data == "":
            raise FrameworkError("--data: give a folder, a list of shards, http(s)://... or pipe:...")
        self.wishes()

    def _check_evaluation(self, of_recipe: Iterable[object]) -> None:
        inception = self.eval_extractor == INCEPTION
        if self.eval_every_images is None:
            given = {name: getattr(self, name) for name in ("eval_metrics", "eval_extractor_weights", "keep_best")}
            given |= {"eval_extractor": not inception}
            for name in (name for name, value in given.items() if value):
                raise FrameworkError(f"--{name.replace('_', '-')} belongs to --eval-every-images COUNT: give that, too")
            return
        metrics = self.metrics(of_recipe)
        # Names of metrics depend on the extractor.
        for metric in metrics:
            if isinstance(metric, FeatureMetric) and metric.inception not in (None, inception):
                why = "FID's Inception calls it fid, kid" if inception else "only FID's Inception has fid, kid and is"
                raise FrameworkError(f"--eval-metrics {metric.name} with --eval-extractor {self.eval_extractor}: {why}")
        perceptual = [metric.name for metric in metrics if metric.model == "lpips"]
        if perceptual:
            raise FrameworkError(f"--eval-metrics {perceptual[0]}: only for saved checkpoints, by `framework evaluate`")
        distances = [output for metric in metrics for output in metric.outputs if metric.lower_is_better(output)]
        if self.keep_best and not distances:
            raise FrameworkError(f"--keep-best {self.keep_best}: --eval-metrics names no distance, such as fid10k")


@dataclass(frozen=True, kw_only=True)
class RunConfig(Flags):
    """The flags after the launcher's settings have been adopted, so that every value is known."""

    micro_batches: Annotated[int, Range(least=1)] = 1
    engine: EngineName = "ddp"
    precision: Precision = "fp32"
