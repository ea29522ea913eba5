"""What each switch is worth, one at a time and together, against the code as it is before and after."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from benchmarks.gpu import trial_convolutions
from benchmarks.gpu.job import Job, allow_tf32
from benchmarks.gpu.play import Play
from benchmarks.recipes import load_recipe
from framework.engines.base import Precision
from framework.recipe import Adam, Recipe


@dataclass(frozen=True, kw_only=True)
class FusedAdam(Adam):
    """Adam in torch's fused kernel: one launch for all parameters."""

    def build(self, parameters: Iterator[nn.Parameter]) -> torch.optim.Optimizer:
        """The optimiser over `parameters`."""
        options: dict[str, Any] = {"lr": self.lr, "betas": self.betas, "eps": self.eps}
        return torch.optim.Adam(parameters, **options, fused=True)


@dataclass(frozen=True, kw_only=True)
class Switch:
    """A way to play the same game."""

    name: str
    around: tuple[Callable[[], AbstractContextManager[None]], ...] = ()
    """Entered while the game is built and played."""
    fused_adam: bool = False
    channels_last: bool = False
    precision: Precision = "bf16"


@contextmanager
def benchmark_cudnn() -> Iterator[None]:
    """Let cuDNN try its algorithms on each new shape and keep the fastest."""
    torch.backends.cudnn.benchmark = True
    try:
        yield
    finally:
        torch.backends.cudnn.benchmark = False


@contextmanager
def with_tf32() -> Iterator[None]:
    """Let fp32 products use TF32."""
    allow_tf32(True)
    try:
        yield
    finally:
        allow_tf32(False)


def grouped_too() -> AbstractContextManager[None]:
    """Both trial nodes."""
    return trial_convolutions.patched(filters=True, grouped=True)


AS_IT_IS = Switch(name="as it is")
BENCHMARK = Switch(name="cudnn.benchmark", around=(benchmark_cudnn,))
CHANNELS_LAST = Switch(name="channels_last weights", channels_last=True)
FUSED_ADAM = Switch(name="fused Adam", fused_adam=True)
FILTERS = Switch(name="trial: constant filters as nodes", around=(trial_convolutions.patched,))
GROUPED = Switch(name="trial: constant filters and grouped convolutions as nodes", around=(grouped_too,))
FP32 = Switch(name="fp32", precision="fp32")
TF32 = Switch(name="tf32", precision="fp32", around=(with_tf32,))
TOGETHER = Switch(
    name="cudnn.benchmark, fused Adam, constant filters",
    around=(benchmark_cudnn, trial_convolutions.patched),
    fused_adam=True,
)
NOISE = Switch(name="as it is, again")
TRIALS = (
    (
        "stylegan2_ffhq256",
        32,
        (AS_IT_IS, BENCHMARK, CHANNELS_LAST, FUSED_ADAM, FILTERS, TOGETHER, FP32, TF32, NOISE),
    ),
    ("r3gan_cifar10", 512, (AS_IT_IS, GROUPED, NOISE)),
    ("biggan_imagenet128", 64, (AS_IT_IS, BENCHMARK, FUSED_ADAM, CHANNELS_LAST)),
)
"""Recipe, batch size, switches."""
REHEARSED = (("sagan_fashion", 4, (AS_IT_IS, CHANNELS_LAST, FUSED_ADAM, GROUPED, TOGETHER)),)


def switches(job: Job) -> None:
    """The pace with each switch; those of one recipe follow each other, so that ratios are of one state of the card."""
    allow_tf32(False)
    for name, batch_size, chosen in REHEARSED if job.rehearsal else TRIALS:
        for switch in chosen:
            about = {"recipe": name, "batch_size": batch_size, "switch": switch.name}
            if job.late(**about):
                continue
            with job.part(**about):
                job.findings.add(**about, **measured(job, load_recipe(name), batch_size, switch))


def measured(job: Job, recipe: Recipe, batch_size: int, switch: Switch) -> dict[str, Any]:
    """The pace, or why the code does not stand the switch, which is an answer and no failure of the benchmark."""
    if switch.fused_adam:
        players = {side: _fused(player) for side, player in recipe.players.items()}
        recipe = dataclasses.replace(recipe, **players)
    steps, warm_up = (1, 0) if job.rehearsal else (16, 3)
    with ExitStack() as stack:
        for enter in switch.around:
            stack.enter_context(enter())
        try:
            play = Play(
                recipe,
                batch_size=batch_size,
                device=job.device,
                precision=switch.precision,
                prepare=_to_channels_last if switch.channels_last else lambda network: None,
            )
            return play.pace(steps=steps, warm_up=warm_up)
        except RuntimeError as error:
            if not switch.channels_last:
                raise
            return {"refused": str(error).splitlines()[0]}


def _to_channels_last(network: nn.Module) -> None:
    network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]  # torch types this overload away


def _fused(player: Any) -> Any:
    """A player with a fused optimiser."""
    adam = player.optimizer
    fields = {field.name: getattr(adam, field.name) for field in dataclasses.fields(adam)}
    return dataclasses.replace(player, optimizer=FusedAdam(**fields))
