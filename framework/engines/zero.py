"""DeepSpeed ZeRO stages 1, 2 and 3 for one player (Rajbhandari et al. 2020, arXiv:1910.02054).

Losses are built with the raw network and the engine never runs DeepSpeed's own forward, whose output hooks break second
derivatives. What that needs of DeepSpeed's inside is listed in `PRIVATE` and asserted at the start, so that a new
release is refused rather than trained with silently wrong gradients; `docs/decisions/009-sharded-engines.md` has the
reasons one by one.
"""

from __future__ import annotations

import contextlib
import logging
import math
import os
from collections.abc import Iterator
from contextlib import AbstractContextManager
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn

from framework.engines.base import Fragment, Precision, StepReport
from framework.engines.errors import EngineError
from framework.engines.precision import LossScale, autocast
from framework.recipe import Adam

BUCKET_ELEMENTS = 5_000_000
"""Gradient elements reduced at a time."""

PRIVATE = {
    "any stage": ("clip_grad", "optimizer"),
    "stages 1 and 2": ("single_partition_of_fp32_groups", "_lazy_init_hp_params_optimizer_state", "update_lp_params"),
    "stage 3": (
        "clear_backward_seen_flag",
        "fp32_partitioned_groups_flat",
        "fp16_partitioned_groups_flat",
        "parameter_offload",
        "persistent_parameters",
        "_DeepSpeedZeroOptimizer_Stage3__param_id_to_grad_partition",
        "_get_fp32_opt_state_partition",
        "_reassign_or_swap_out_partitioned_parameters",
    ),
}
"""Attributes of DeepSpeed's optimisers that this engine uses."""


class Zero:
    """A network whose optimiser state (stage 1), gradients (2) and parameters (3) are spread over all processes.

    Args:
        network: on its device, fp32.
        stage: 1, 2 or 3.
        optimizer: the recipe's optimiser.
        clip_norm: largest global gradient norm, or None.
        precision: of forward passes; parameters stay fp32.

    Raises:
        EngineError: DeepSpeed is missing, or its inside is not what this engine was written for.
    """

    def __init__(
        self,
        network: nn.Module,
        *,
        name: str,
        stage: int,
        optimizer: Adam,
        clip_norm: float | None,
        precision: Precision,
    ) -> None:
        deepspeed = _deepspeed(next(network.parameters()).device)
        self.name, self._stage, self._spec = name, stage, optimizer
        self._clip_norm, self._precision = clip_norm, precision
        self.rank, self.world = dist.get_rank(), dist.get_world_size()
        self.device = next(network.parameters()).device
        self.collective_forward = True  # stages 1 and 2: to put the average into the network and back
        # ZeRO broadcasts parameters, but not buffers.
        for tensor in [*network.parameters(), *network.buffers()]:
            dist.broadcast(tensor.detach(), 0)
        trained = [p for p in network.parameters() if p.requires_grad]
        self._engine, *_ = deepspeed.initialize(
            model=network, optimizer=optimizer.build(iter(trained)), config=configuration(stage)
        )
        self.network: nn.Module = self._engine.module
        self._zero = self._engine.optimizer
        self._assert_known_inside()
        self._optimizer: torch.optim.Optimizer = self._zero.optimizer
        self._scale = LossScale(precision)
        self._finite = torch.ones((), device=self.device)

    def _assert_known_inside(self) -> None:
        wanted = [*PRIVATE["any stage"], *PRIVATE["stage 3" if self._stage == 3 else "stages 1 and 2"]]
        missing = [name for name in wanted if not hasattr(self._zero, name)]
        if missing:
            import deepspeed

            raise EngineError(
                f"{self.name}: deepspeed {deepspeed.__version__} has changed inside ({', '.join(missing)} are gone); "
                "install the version in constraints.txt, or use --engine fsdp2"
            )

    def autocast(self) -> AbstractContextManager[object]:
        """The precision of forward passes."""
        return autocast(self.device, self._precision)

    @contextlib.contextmanager
    def frozen(self) -> Iterator[nn.Module]:
        """The network with gradients flowing through it but not into its parameters."""
        trained = [p for p in self.network.parameters() if p.requires_grad]
        for parameter in trained:
            parameter.requires_grad_(False)
        try:
            yield self.network
        finally:
            for parameter in trained:
                parameter.requires_grad_(True)

    @contextlib.contextmanager
    def resident(self) -> Iterator[None]:
        """All parameters stay gathered: stage 3 would release them after the first-order backward."""
        if self._stage < 3:
            yield
            return
        parameters: list[Any] = list(self.network.parameters())
        absent = [p for p in parameters if p.ds_status.name == "NOT_AVAILABLE"]
        if absent:
            absent[0].all_gather(absent)
        for parameter in parameters:  # a parameter in use by a submodule is not released
            parameter.ds_active_sub_modules.add("resident")
        try:
            yield
        finally:
            for parameter in parameters:
                parameter.ds_active_sub_modules.discard("resident")
            self._zero.parameter_offload.partition_all_parameters()
            self._gather_persistent()

    def _gather_persistent(self) -> None:
        persistent = self._zero.persistent_parameters
        if persistent:
            persistent[0].all_gather(persistent)

    def backward(self, loss: Tensor, *, last: bool) -> None:
        """Accumulate gradients of the (unscaled) loss."""
        # A loss that is not finite may have finite gradients; ZeRO votes on gradients, so the loss goes into them.
        factor = torch.where(loss.detach().isfinite(), 1.0, math.nan)
        if self._stage == 3:
            self._zero.clear_backward_seen_flag()  # else a second backward overwrites the first one's gradients
        else:
            # A penalty's second derivatives reach some parameters with an undefined gradient, on which the hooks of
            # stages 1 and 2 fail: a true zero for every parameter.
            loss = loss + 0.0 * sum(p.sum() for p in self.network.parameters() if p.requires_grad)
        self._engine.set_gradient_accumulation_boundary(last)
        self._engine.backward(loss * factor * self._scale.scale, scale_wrt_gas=False)

    def step(self, *, lr_factor: float, betas: tuple[float, float] | None = None) -> StepReport:
        """Vote, clip and update; a gradient that is not finite on any process skips the update on all."""
        for group in self._optimizer.param_groups:
            group["lr"] = self._spec.lr * lr_factor
            if betas is not None:
                group["betas"] = betas
        if self._scale.enabled:
            self._zero.override_loss_scale(self._scale.scale)
        self._zero.clip_grad = self._clip_norm or 0.0
        skipped = self._engine.skipped_steps
        self._engine.step()
        norm = float(self._engine.get_global_grad_norm())
        if self._stage == 3:  # parameters that the next turn does not use would be given this turn's gradient again
            for gradient in self._zero._DeepSpeedZeroOptimizer_Stage3__param_id_to_grad_partition.values():
                gradient.zero_()
        finite = self._engine.skipped_steps == skipped and math.isfinite(norm)
        self._scale.update(finite=finite)
        return StepReport(grad_norm=norm, finite=finite)

    def fragments(self, *, own: bool, kinds: tuple[str, ...] | None = None) -> Iterator[Fragment]:
        """This process's intervals of the fp32 weights and moments; every interval lies on exactly one process."""
        kinds = ("weight", *self._spec.moments) if kinds is None else kinds
        self._make_moments()
        for name, parameter in self.network.named_parameters():
            if not parameter.requires_grad:
                continue
            for kind in kinds:
                state_key = None if kind == "weight" else kind
                found = self._sharded(parameter, state_key) if self._stage == 3 else self._mapped(parameter, state_key)
                if found is not None:
                    start, values, shape = found
                    yield Fragment(kind=kind, name=name, start=start, values=values, shape=shape)

    def _mapped(self, parameter: Any, state_key: str | None) -> tuple[int, Tensor, tuple[int, ...]] | None:
        """Stages 1 and 2: DeepSpeed maps each parameter to its piece of this process's flat partition."""
        piece = parameter._hp_mapping
        if piece is None:
            return None
        return piece.lp_fragment_address.start, piece.get_hp_fragment(state_key).data, tuple(parameter.shape)

    def _sharded(self, parameter: Any, state_key: str | None) -> tuple[int, Tensor, tuple[int, ...]] | None:
        """Stage 3: each parameter is cut into equal pieces, the last one padded."""
        flat, _ = self._zero._get_fp32_opt_state_partition(
            parameter, release_swap_buffers=True, optim_state_key=state_key
        )
        start = flat.numel() * self.rank
        held = min(flat.numel(), parameter.ds_numel - start)
        return (start, flat.data[:held], tuple(parameter.ds_shape)) if held > 0 else None

    def _flats(self) -> list[Tensor]:
        zero = self._zero
        flats: list[Tensor] = (
            zero.fp32_partitioned_groups_flat if self._stage == 3 else zero.single_partition_of_fp32_groups
        )
        return flats

    def _make_moments(self) -> None:
        """Torch creates moments in the first step; checkpoints may be read or written before."""
        for flat in self._flats():
            state = self._optimizer.state[flat]
            if "step" not in state:
                state["step"] = torch.tensor(0.0)
                for moment in self._spec.moments:
                    state[moment] = torch.zeros_like(flat)
        if self._stage < 3:
            self._zero._lazy_init_hp_params_optimizer_state()

    def steps_taken(self) -> int:
        """Optimiser steps so far (skipped ones not counted)."""
        return max((int(s["step"]) for s in self._optimizer.state.values() if "step" in s), default=0)

    def commit(self, *, steps_taken: int | None = None) -> None:
        """Refresh the copies that the network computes with; optionally set the optimiser's step count."""
        if steps_taken is not None:
            self._make_moments()
            for state in self._optimizer.state.values():
                if "step" in state:
                    state["step"] = torch.tensor(float(steps_taken))
        zero = self._zero
        if self._stage < 3:
            zero.update_lp_params()
            return
        pairs = zip(zero.fp32_partitioned_groups_flat, zero.fp16_partitioned_groups_flat, strict=True)
        for index, (master, computed) in enumerate(pairs):
            computed.data.copy_(master.data)
            zero._reassign_or_swap_out_partitioned_parameters(index)
        if zero.persistent_parameters:
            zero.persistent_parameters[0].partition(zero.persistent_parameters)
            self._gather_persistent()

    def state(self) -> dict[str, float]:
        """The fp16 loss scale."""
        return self._scale.state()

    def load_state(self, state: dict[str, float]) -> None:
        """Restore what `state` returned."""
        self._scale.load_state(state)

    def close(self) -> None:
        """Release DeepSpeed's buffers and hooks."""
        self._engine.destroy()


def configuration(stage: int) -> dict[str, Any]:
    """What DeepSpeed is told. Clipping, schedules, precision and accumulation are ours, so they are off here."""
    return {
        "train_micro_batch_size_per_gpu": 1,
        "gradient_accumulation_steps": 1,
        "gradient_clipping": 0.0,
        "steps_per_print": 10**9,
        "zero_allow_untested_optimizer": True,
        "zero_optimization": {"stage": stage, "overlap_comm": False, "reduce_bucket_size": BUCKET_ELEMENTS},
    }


def _deepspeed(device: torch.device) -> Any:
    os.environ.setdefault("DS_ACCELERATOR", device.type)  # otherwise it looks for one, and warns of a CPU
    try:
        import deepspeed
    except ImportError:
        raise EngineError(
            "the ZeRO engines need DeepSpeed (Linux: pip install deepspeed); or use --engine fsdp2"
        ) from None
    logging.getLogger("DeepSpeed").setLevel(logging.WARNING)
    # Otherwise the first process group on a CPU compiles this operator, which only inference uses, and a process that
    # is killed meanwhile leaves a lock on which every later run waits for ever.
    deepspeed.ops.__compatible_ops__["deepspeed_shm_comm"] = False
    if not deepspeed.comm.is_initialized():
        deepspeed.init_distributed(dist_backend=dist.get_backend(), verbose=False, auto_mpi_discovery=False)
    return deepspeed
