"""DeepSpeed ZeRO stages 1, 2 and 3 for one player (Rajbhandari et al. 2020, arXiv:1910.02054).

Losses are built with the raw network and the engine never runs DeepSpeed's own forward, whose output hooks break second
derivatives. The private parts of DeepSpeed that this needs are listed in `zero_setup.PRIVATE` and checked at the start;
`docs/decisions/009-sharded-engines.md` has the reasons one by one.
"""

from __future__ import annotations

import contextlib
import math
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn

from framework.engines.base import ParameterSlice, Precision, StepReport
from framework.engines.optimizer_state import OptimizerState
from framework.engines.precision import LossScale, autocast
from framework.engines.structured import outputs_taken_apart
from framework.engines.weight_clipping import WeightClipping
from framework.engines.zero_setup import BUCKET_ELEMENTS, assert_known_inside, configuration, prepared_deepspeed
from framework.recipe.optimizers import Optimizer


class ZeroEngine:
    """A network whose optimiser state (stage 1), gradients (2) and parameters (3) are spread over all processes.

    Args:
        network: the player's network on its device, in fp32.
        stage: stage of ZeRO: 1, 2 or 3.
        optimizer: the recipe's optimiser.
        clip_norm: largest L2 norm of the whole gradient, or None for no clipping.
        weight_clipping: the box that weights are kept in; None for none.
        precision: precision of forward passes; parameters stay fp32.

    Raises:
        EngineError: DeepSpeed is missing, or its private parts are not those this engine was written for.
    """

    def __init__(
        self,
        network: nn.Module,
        *,
        name: str,
        stage: int,
        optimizer: Optimizer,
        clip_norm: float | None,
        weight_clipping: WeightClipping | None = None,
        precision: Precision,
    ) -> None:
        deepspeed = prepared_deepspeed(next(network.parameters()).device)
        self.name, self._stage, self._spec = name, stage, optimizer
        self._clip_norm, self._precision = clip_norm, precision
        self.rank, self.world = dist.get_rank(), dist.get_world_size()
        self.device = next(network.parameters()).device
        self.collective_forward = True  # stages 1 and 2: to put the average into the network and back
        # ZeRO broadcasts parameters, but not buffers.
        for tensor in [*network.parameters(), *network.buffers()]:
            dist.broadcast(tensor.detach(), 0)
        # DeepSpeed takes over the network and the optimiser.
        trained = [p for p in network.parameters() if p.requires_grad]
        config = configuration(stage)
        # The buffer is allocated whole, however small the network.
        config["zero_optimization"]["reduce_bucket_size"] = min(BUCKET_ELEMENTS, sum(p.numel() for p in trained))
        with outputs_taken_apart(network):
            self._engine, *_ = deepspeed.initialize(
                model=network, optimizer=optimizer.build(iter(trained)), config=config
            )
        self.network: nn.Module = self._engine.module
        self._zero = self._engine.optimizer
        assert_known_inside(self._zero, name=name, stage=stage)
        self._optimizer: torch.optim.Optimizer = self._zero.optimizer
        self._state = OptimizerState(optimizer, self._optimizer, self._flats())
        self._weight_clipping = weight_clipping or WeightClipping()
        self._scale = LossScale(precision)
        self._resident = False
        self._share_partitions()

    def _share_partitions(self) -> None:
        """Let the weights that a process updates be views of those that the network computes with.

        DeepSpeed keeps two copies even when both are fp32.
        """
        zero = self._zero
        if self._stage == 3:
            computed = zero.fp16_partitioned_groups_flat
        else:
            computed = [partitions[self.rank] for partitions in zero.parallel_partitioned_bit16_groups]
        for master, partition in zip(self._flats(), computed, strict=True):
            if partition.dtype == master.dtype:
                master.data = partition.data
        if self._stage < 3:
            zero._link_all_hp_params()  # the pieces by parameter are views too

    def autocast(self) -> AbstractContextManager[object]:
        """Return the autocast context of forward passes."""
        return autocast(self.device, self._precision)

    @contextlib.contextmanager
    def frozen(self) -> Iterator[nn.Module]:
        """Yield the network with gradients flowing through it but not into its parameters."""
        trained = [p for p in self.network.parameters() if p.requires_grad]
        for parameter in trained:
            parameter.requires_grad_(False)
        try:
            yield self.network
        finally:
            if self._stage == 3 and not self._resident:
                # Where no gradient arrives (the first layers) stage 3 waits for a backward of this player's own.
                self._zero.parameter_offload.partition_all_parameters()
            for parameter in trained:
                parameter.requires_grad_(True)

    @contextlib.contextmanager
    def resident(self) -> Iterator[None]:
        """Keep all parameters gathered, which stage 3 would release after the first-order backward."""
        if self._stage < 3:
            yield
            return
        parameters: list[Any] = list(self.network.parameters())
        absent = [p for p in parameters if p.ds_status.name == "NOT_AVAILABLE"]
        if absent:
            absent[0].all_gather(absent)
        for parameter in parameters:  # a parameter in use by a submodule is not released
            parameter.ds_active_sub_modules.add("resident")
        self._resident = True
        try:
            yield
        finally:
            self._resident = False
            for parameter in parameters:
                parameter.ds_active_sub_modules.discard("resident")
            self._zero.parameter_offload.partition_all_parameters()

    def backward(self, loss: Tensor, *, last: bool) -> None:
        """Accumulate gradients of the unscaled loss ()."""
        # A loss that is not finite may have finite gradients; ZeRO votes on gradients, so the loss goes into them.
        factor = torch.where(loss.detach().isfinite(), 1.0, math.nan)
        if self._stage == 3:
            self._zero.clear_backward_seen_flag()  # else a second backward overwrites the first one's gradients
        else:
            # A penalty's second derivatives reach some parameters with an undefined gradient, on which the hooks of
            # stages 1 and 2 fail: a true zero for every parameter.
            loss = loss + 0.0 * sum(p.sum() for p in self.network.parameters() if p.requires_grad)
        self._engine.set_gradient_accumulation_boundary(last)
        if self._scale.enabled:  # before the backward, which multiplies by it; the step divides by it
            self._zero.override_loss_scale(self._scale.scale)
        self._engine.backward(loss * factor, scale_wrt_gas=False)

    def begin_turn(self) -> None:
        """Clip weights before the first forward pass for a step of this player, if it clips them there."""
        self._weight_clipping.begin_turn(self)

    def step(self, *, lr_factor: float, hyperparameters: Mapping[str, Any] | None = None) -> StepReport:
        """Vote, clip and update; a gradient that is not finite on any process skips the update on all."""
        # DeepSpeed votes, clips and updates, and counts the steps that it skipped.
        self._state.set_schedule(lr_factor=lr_factor, hyperparameters=hyperparameters)
        self._zero.clip_grad = self._clip_norm or 0.0
        skipped = self._engine.skipped_steps
        self._engine.step()
        norm = float(self._engine.get_global_grad_norm())
        if self._stage == 3:  # parameters that the next turn does not use would be given this turn's gradient again
            for gradient in self._zero._DeepSpeedZeroOptimizer_Stage3__param_id_to_grad_partition.values():
                gradient.zero_()
        taken = self._engine.skipped_steps == skipped
        self._state.steps_taken += taken
        self._weight_clipping.end_turn(self, taken=taken)
        finite = taken and math.isfinite(norm)
        self._scale.update(finite=finite)
        return StepReport(grad_norm=norm, finite=finite)

    def slices(self, *, own: bool, kinds: tuple[str, ...] | None = None) -> Iterator[ParameterSlice]:
        """Yield this process's intervals of the fp32 weights and moments; each lies on exactly one process."""
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
                    yield ParameterSlice(kind=kind, name=name, start=start, values=values, shape=shape)

    def _mapped(self, parameter: Any, state_key: str | None) -> tuple[int, Tensor, tuple[int, ...]] | None:
        """Return start, values (n,) and shape in stages 1 and 2, where each parameter is mapped to a flat partition."""
        piece = parameter._hp_mapping
        if piece is None:
            return None
        return piece.lp_fragment_address.start, piece.get_hp_fragment(state_key).data, tuple(parameter.shape)

    def _sharded(self, parameter: Any, state_key: str | None) -> tuple[int, Tensor, tuple[int, ...]] | None:
        """Return start, values (n,) and shape in stage 3: each parameter is cut into equal pieces, the last padded."""
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
        """Create the optimiser's state where it is missing, and let DeepSpeed map it to parameters."""
        self._state.create()
        if self._stage < 3:
            self._zero._lazy_init_hp_params_optimizer_state()

    def steps_taken(self) -> int:
        """Return the number of optimiser steps so far, skipped ones not counted."""
        return self._state.steps_taken

    def commit(self, *, steps_taken: int | None = None) -> None:
        """Refresh the copies that the network computes with; optionally set the optimiser's step count."""
        if steps_taken is not None:
            self._make_moments()
            self._state.set_steps_taken(steps_taken)
        zero = self._zero
        if self._stage < 3:
            zero.update_lp_params()
            return
        pairs = zip(zero.fp32_partitioned_groups_flat, zero.fp16_partitioned_groups_flat, strict=True)
        for index, (master, computed) in enumerate(pairs):
            computed.data.copy_(master.data)
            zero._reassign_or_swap_out_partitioned_parameters(index)

    def state(self) -> dict[str, float]:
        """Return the fp16 loss scale as a checkpoint keeps it; empty in other precisions."""
        return self._scale.state()

    def load_state(self, state: dict[str, float]) -> None:
        """Restore what `state` returned."""
        self._scale.load_state(state)

    def close(self) -> None:
        """Release DeepSpeed's buffers and hooks."""
        self._engine.destroy()
