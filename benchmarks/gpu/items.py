"""The items of a session, in order of value, with budgets for one card of the H100's kind."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from benchmarks.gpu.cifar import cifar
from benchmarks.gpu.collectives import collectives
from benchmarks.gpu.job import Job
from benchmarks.gpu.machine import machine
from benchmarks.gpu.operators import operators
from benchmarks.gpu.peer import peer
from benchmarks.gpu.resume import resume
from benchmarks.gpu.speed import speed
from benchmarks.gpu.steps import steps
from benchmarks.gpu.switches import switches


@dataclass(frozen=True, kw_only=True)
class Item:
    """A question about a GPU."""

    name: str
    run: Callable[[Job], None]
    budget_seconds: float
    question: str


ITEMS = (
    Item(name="machine", run=machine, budget_seconds=15, question="which card, and what are its ceilings?"),
    Item(name="ops", run=operators, budget_seconds=60, question="is every operator right, twice differentiated?"),
    Item(name="step", run=steps, budget_seconds=90, question="does every recipe step, as on a CPU?"),
    Item(name="nccl", run=collectives, budget_seconds=45, question="does every collective call work over NCCL?"),
    Item(name="speed", run=speed, budget_seconds=130, question="s/kimg, memory, launches, synchronisations?"),
    Item(name="switches", run=switches, budget_seconds=90, question="what is each switch worth?"),
    Item(name="resume", run=resume, budget_seconds=30, question="does a resumed run have the same bits?"),
    Item(name="peer", run=peer, budget_seconds=80, question="how fast is stylegan3's own program here?"),
    Item(name="cifar", run=cifar, budget_seconds=200, question="FID on CIFAR-10 by the minute?"),
)
