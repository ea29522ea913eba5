"""DeepSpeed as the ZeRO engine needs it: its version, its configuration, and the private parts that must be there.

The engine works beneath DeepSpeed's own forward, so it depends on names that may change in any release. They are listed
here and looked for when an engine is built: a new release is refused rather than trained with silently wrong gradients.
"""

from __future__ import annotations

import logging
import os
import warnings
from typing import Any

import torch
import torch.distributed as dist
from packaging.specifiers import SpecifierSet

from framework.engines.errors import EngineError

VERSIONS = ">=0.19.8,<0.20"
"""The releases whose private parts are known; the same range as in pyproject.toml."""

BUCKET_ELEMENTS = 5_000_000
"""The number of gradient elements reduced at a time; stages 1 and 2 hold this buffer in a backward, stage 3 always."""

PRIVATE = {
    "any stage": ("clip_grad", "optimizer", "override_loss_scale"),
    "stages 1 and 2": (
        "single_partition_of_fp32_groups",
        "parallel_partitioned_bit16_groups",
        "_link_all_hp_params",
        "_lazy_init_hp_params_optimizer_state",
        "update_lp_params",
    ),
    "stage 3": (
        "clear_backward_seen_flag",
        "fp32_partitioned_groups_flat",
        "fp16_partitioned_groups_flat",
        "parameter_offload",
        "_DeepSpeedZeroOptimizer_Stage3__param_id_to_grad_partition",
        "_get_fp32_opt_state_partition",
        "_reassign_or_swap_out_partitioned_parameters",
    ),
}
"""The attributes of DeepSpeed's optimisers that the engine uses, by stage."""

DEPRECATED = ("all_gather_into_tensor", "reduce_scatter_tensor")
"""Collectives of torch that DeepSpeed's stage 3 calls under their old names."""


def assert_known_inside(zero: Any, *, name: str, stage: int) -> None:
    """Refuse a DeepSpeed whose optimiser lacks what the engine uses.

    Raises:
        EngineError: attributes are missing; the message names them.
    """
    wanted = [*PRIVATE["any stage"], *PRIVATE["stage 3" if stage == 3 else "stages 1 and 2"]]
    missing = [attribute for attribute in wanted if not hasattr(zero, attribute)]
    if missing:
        raise EngineError(
            f"{name}: the installed deepspeed has changed inside ({', '.join(missing)} are gone); install the version "
            "in constraints.txt, or use --engine fsdp2"
        )


def configuration(stage: int) -> dict[str, Any]:
    """Return DeepSpeed's configuration; clipping, schedules, precision and accumulation are ours, and off here."""
    stage_3_alone = {
        # Stage 3 would keep small parameters whole. It forgets them whenever a network is used in a new order, as the
        # players of a game are, so they would be gathered more often than others, not less.
        "stage3_param_persistence_threshold": 0,
        # It would also keep a parameter gathered that it expects to need again within 10^9 elements, which is all of
        # them, for good.
        "stage3_max_reuse_distance": 0,
    }
    return {
        "train_micro_batch_size_per_gpu": 1,
        "gradient_accumulation_steps": 1,
        "gradient_clipping": 0.0,
        "steps_per_print": 10**9,
        "zero_allow_untested_optimizer": True,
        "zero_optimization": {
            "stage": stage,
            "overlap_comm": False,
            "reduce_bucket_size": BUCKET_ELEMENTS,
            # Stages 1 and 2 send each gradient to its owner only. DeepSpeed's default sums it on every process and
            # throws away what others own: half as much traffic again per turn.
            "use_multi_rank_bucket_allreduce": False,
            **(stage_3_alone if stage == 3 else {}),
        },
    }


def _is_no_caution(record: logging.LogRecord) -> bool:
    """Return whether a record is anything but the caution against optimisers that DeepSpeed does not list."""
    return "ZeRO with an untested optimizer" not in record.getMessage()


def prepared_deepspeed(device: torch.device) -> Any:
    """Return the deepspeed module, joined to this launch's process group.

    Raises:
        EngineError: it is missing, or not a release whose private parts are known.
    """
    os.environ.setdefault("DS_ACCELERATOR", device.type)  # otherwise it looks for one, and warns of a CPU
    try:
        import deepspeed
    except ImportError:
        raise EngineError(
            "the ZeRO engines need DeepSpeed (Linux: pip install deepspeed); or use --engine fsdp2"
        ) from None
    release = deepspeed.__version__.partition("+")[0]
    if release not in SpecifierSet(VERSIONS):
        raise EngineError(
            f"the ZeRO engines are written for deepspeed {VERSIONS}, and {release} is installed; install the version "
            "in constraints.txt, or use --engine fsdp2"
        )
    logging.getLogger("DeepSpeed").setLevel(logging.WARNING)
    # It knows of a few optimisers that they are elementwise; ours are tried out (`optimizer_trial`).
    logging.getLogger("DeepSpeed").addFilter(_is_no_caution)
    for name in DEPRECATED:
        # Torch would warn in every call, 16 lines a step. Only DeepSpeed can use the new names, which compute the same.
        warnings.filterwarnings(
            "ignore",
            rf"`torch\.distributed\.{name}` is deprecated",
            category=FutureWarning,
            module=r"torch\.distributed\.c10d_logger",
        )
    # Otherwise the first process group on a CPU compiles this operator, which only inference uses, and a process that
    # is killed meanwhile leaves a lock on which every later run waits for ever.
    deepspeed.ops.__compatible_ops__["deepspeed_shm_comm"] = False
    if not deepspeed.comm.is_initialized():
        deepspeed.init_distributed(dist_backend=dist.get_backend(), verbose=False, auto_mpi_discovery=False)
    return deepspeed
