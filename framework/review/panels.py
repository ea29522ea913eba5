"""The charts of the page: the metrics that share one, the order of charts, and how to read each."""

from __future__ import annotations

from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Any

from framework.review.run import Run, Series
from framework.tracking.checkpoints import Score

MAX_POINTS = 1500
"""The most points drawn per line; of longer series, each stretch keeps its smallest and its largest (spikes stay)."""

# These only repeat the x axis or another chart.
NOT_DRAWN = ("progress/*", "perf/seconds_per_kimg")


@dataclass(frozen=True, kw_only=True)
class Panel:
    """A chart, whose lines are the metrics with a name that matches one of `names`, in that order."""

    group: str
    title: str
    names: tuple[str, ...]
    how: str
    log: bool = False
    """True for a logarithmic scale at first (all charts of positive values have a switch)."""


BALANCE, QUALITY, STEPS = "Balance of the game", "Evaluation", "Optimisation"
SIGNALS, MACHINE, OTHER = "Signals of health", "Speed and machine", "Other"

PANELS = (
    Panel(
        group=BALANCE,
        title="Adversarial losses",
        names=("loss/D", "loss/G", "loss/*"),
        how="The players balance; neither loss has to fall. A discriminator loss that stays near its lowest value (0 "
        "for most losses) leaves the generator without a signal.",
    ),
    Panel(
        group=BALANCE,
        title="Discriminator outputs",
        names=("logits/real", "logits/fake", "logits/*"),
        how="Mean output on real and on generated images. The gap is what the discriminator can tell apart; a gap that "
        "grows and grows means it is winning, or memorising.",
    ),
    Panel(
        group=BALANCE,
        title="Sign on real images",
        names=("sign/*",),
        how="Mean sign of the output on real training images, measured from the output of an undecided discriminator: "
        "0 undecided, 1 always sure. Staying above about 0.6 is the usual mark of overfitting (ADA's target).",
    ),
    Panel(
        group=BALANCE,
        title="Augmentation strength p",
        names=("augment/p", "ada/p", "augment/*"),
        how="Probability of each augmentation. With ADA it rises while the discriminator overfits; towards 0.8 and "
        "more, augmentations may leak into the images.",
    ),
    Panel(
        group=BALANCE,
        title="Growth",
        names=("growth/resolution", "growth/alpha"),
        how="Pixels per side trained at, and the share of the newest layers while they fade in.",
    ),
    Panel(
        group=STEPS,
        title="Gradient norms",
        names=("grad_norm/D", "grad_norm/G", "grad_norm/*"),
        how="Before clipping. Spikes that return, or the two drifting apart by orders of magnitude, "
        "come before collapse.",
        log=True,
    ),
    Panel(
        group=BALANCE,
        title="Further terms",
        names=("term/*",),
        how="What is minimised beside the adversarial loss, as it is and with its weight. A generator's should fall; "
        "one that outweighs the adversarial loss by far leaves it no say.",
        log=True,
    ),
    Panel(
        group=BALANCE,
        title="Classes recognised",
        names=("accuracy/real", "accuracy/fake", "accuracy/*"),
        how="Share of samples whose class the discriminator's class head names, real ones and generated ones (of the "
        "class that was asked for). Generated samples that stay far behind real ones do not show their class.",
    ),
    Panel(
        group=BALANCE,
        title="Information in codes",
        names=("information/*",),
        how="Lower bound, in nats, of what can be read off a sample about the code it was made from. A code of K "
        "classes has at most ln K, 2.30 for ten; 0 means that the generator ignores it.",
    ),
    Panel(
        group=STEPS,
        title="Penalties",
        names=("penalty/*", "reg/*"),
        how="Regularisers as they enter the loss, weight included, on the steps on which they are due.",
        log=True,
    ),
    Panel(group=STEPS, title="Learning rates", names=("lr/D", "lr/G", "lr/*"), how="After the schedule, per player."),
    Panel(
        group=STEPS,
        title="Skipped, failed, not finite",
        names=("health/skipped_*", "health/failed_*", "health/nonfinite"),
        how="Counts since the run began; they should stay at 0. A skipped step had a non-finite loss or gradient.",
    ),
    Panel(
        group=MACHINE,
        title="Images per second",
        names=("perf/images_per_second",),
        how="Real images seen per second by all processes together, waiting and saving included.",
    ),
    Panel(
        group=MACHINE,
        title="Time lost",
        names=("perf/*_share",),
        how="Share of the wall time spent waiting for data, or standing still for a checkpoint. A few "
        "per cent are fine.",
    ),
    Panel(
        group=MACHINE,
        title="Memory",
        names=("system/memory_gb", "perf/peak_gpu_memory_gb", "system/gpu_memory_reserved_gb"),
        how="GiB of the first process: resident, and on its GPU. A line that climbs all the time is a leak.",
    ),
    Panel(
        group=MACHINE,
        title="Processor cores in use",
        names=("system/cpu_cores",),
        how="Cores kept busy by the first process and its data workers that have ended.",
    ),
    Panel(
        group=MACHINE,
        title="Left on the machine",
        names=("system/memory_free_gb", "system/disk_free_gb"),
        how="GiB of memory and disk still free.",
    ),
)
_WITHOUT_PROTOCOL = "Logged without a protocol: compare within this run only."


def charts(runs: list[Run]) -> list[dict[str, Any]]:
    """Return the charts of the page as its script reads them; metrics that no run has give none."""
    # Every metric is drawn once: a chart takes its metrics out of `left`.
    left = {name for run in runs for name in run.series if not _matches(name, NOT_DRAWN)}
    found = _evaluation(runs, left)
    for panel in PANELS:
        names = [name for pattern in panel.names for name in sorted(left) if fnmatchcase(name, pattern)]
        names = list(dict.fromkeys(names))
        left -= set(names)
        found.append(_chart(runs, panel, names))
    found += _health(runs, left)
    # Metrics that no panel names, one chart per prefix.
    for prefix in sorted({name.partition("/")[0] for name in left}):
        names = sorted(name for name in left if name.partition("/")[0] == prefix)
        found.append(_chart(runs, Panel(group=OTHER, title=prefix, names=tuple(names), how=""), names))
    # Evaluation first.
    order = [QUALITY, BALANCE, STEPS, SIGNALS, MACHINE, OTHER]
    return sorted((chart for chart in found if chart["lines"]), key=lambda chart: order.index(chart["group"]))


def _evaluation(runs: list[Run], left: set[str]) -> list[dict[str, Any]]:
    """Return one chart per metric and protocol, so that values of two protocols never share a line or an axis."""
    found = []
    for chart, score in sorted(all_scores(runs).items()):
        lines = []
        for number, run in enumerate(runs):
            points = {i: s.value for i, scores in run.scores.items() for s in scores if s.chart == chart}
            lines += _line(number, score.name, 0, Series(points=points))
        better = "Lower is better." if score.lower_is_better else "Higher is better."
        protocol = f"Protocol {score.protocol_id}, see the table above." if score.protocol_id else _WITHOUT_PROTOCOL
        title = f"{score.name} · {score.protocol_id}" if score.protocol_id else score.name
        found.append(_describe(Panel(group=QUALITY, title=title, names=(), how=f"{better} {protocol}"), lines))
        left.discard(chart)  # the same values, on their way into MLflow
    for name in sorted(name for name in left if _matches(name, ("metrics/*", "eval/*", "best/*"))):
        left.discard(name)
        found.append(_chart(runs, Panel(group=QUALITY, title=name, names=(), how=_WITHOUT_PROTOCOL), [name]))
    return found


def _health(runs: list[Run], left: set[str]) -> list[dict[str, Any]]:
    """Return a chart for each signal that sentinels look at, because each has a scale of its own."""
    names = sorted(name for name in left if name.startswith("health/"))
    left -= set(names)
    how = {"health/state": "The worst sentinel: 0 ok, 1 warn, 2 failing."}
    return [
        _chart(
            runs,
            Panel(group=SIGNALS, title=name.partition("/")[2].replace("_", " "), names=(), how=how.get(name, "")),
            [name],
        )
        for name in names
    ]


def all_scores(runs: list[Run]) -> dict[str, Score]:
    """Return chart name -> the score, of all runs', that tells most about its protocol."""
    found = [score for run in runs for scores in run.scores.values() for score in scores]
    return {score.chart: score for score in sorted(found, key=lambda score: len(score.protocol or ()))}


def thinned(points: dict[int, float], *, most: int = MAX_POINTS) -> list[tuple[int, float]]:
    """Return about `most` points at most, by rising clock: both ends, and the extremes of each stretch between them."""
    ordered = sorted(points.items())
    if len(ordered) <= most:
        return ordered
    stretch = -(-2 * len(ordered) // most)
    kept = {ordered[0], ordered[-1]}
    for first in range(0, len(ordered), stretch):
        part = ordered[first : first + stretch]
        kept |= {min(part, key=lambda point: point[1]), max(part, key=lambda point: point[1])}
    return sorted(kept)


def _matches(name: str, patterns: tuple[str, ...]) -> bool:
    return any(fnmatchcase(name, pattern) for pattern in patterns)


def _chart(runs: list[Run], panel: Panel, names: list[str]) -> dict[str, Any]:
    lines = []
    for number, run in enumerate(runs):
        for style, name in enumerate(names):
            if name in run.series:
                lines += _line(number, name, style, run.series[name])
    return _describe(panel, lines)


def _line(run: int, name: str, style: int, series: Series) -> list[dict[str, Any]]:
    if not series.points and not series.nonfinite:
        return []
    points = thinned(series.points)
    return [
        {
            "run": run,
            "name": name,
            "style": style,
            "x": [images for images, _ in points],
            "y": [value for _, value in points],
            "bad": series.nonfinite[:MAX_POINTS],
            "total": len(series.points),
        }
    ]


def _describe(panel: Panel, lines: list[dict[str, Any]]) -> dict[str, Any]:
    return {"group": panel.group, "title": panel.title, "how": panel.how, "log": panel.log, "lines": lines}
