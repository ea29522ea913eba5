"""What a launcher wishes for is adopted, refused by name, or an error beside a flag that contradicts it."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import pytest
import yaml

from framework.runtime.launchers import LaunchError
from framework.train.config import Flags, RunConfig
from framework.train.launcher import as_launched, check_clipping
from tests.helpers.accelerated import default_file, launched
from tests.helpers.launch import ROOT
from tests.helpers.play import small_recipe

WORLD = ("--num_processes", "2", "--main_process_port", "0")
DEEPSPEED, FSDP = (*WORLD, "--use_deepspeed"), (*WORLD, "--use_fsdp", "--fsdp_version", "2")


@pytest.fixture(autouse=True)
def _nothing_of_this_machine(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    default_file(monkeypatch, tmp_path / "none.yaml")


def deepspeed_file(tmp_path: Path, **keys: object) -> tuple[str, ...]:
    (tmp_path / "mine.json").write_text(json.dumps(keys))
    return (*DEEPSPEED, "--deepspeed_config_file", str(tmp_path / "mine.json"))


@pytest.mark.parametrize(
    ("flags", "expected", "said"),
    [
        (WORLD, {}, ""),
        ((*DEEPSPEED, "--zero_stage", "3"), {"engine": "zero3"}, "engine zero3: as launched"),
        ((*DEEPSPEED, "--zero_stage", "1"), {"engine": "zero1"}, "engine zero1: as launched"),
        ((*DEEPSPEED, "--zero_stage", "0"), {"engine": "ddp"}, "engine ddp: as launched"),
        (DEEPSPEED, {"engine": "zero2"}, "engine zero2: as launched"),
        (FSDP, {"engine": "fsdp2"}, "engine fsdp2: as launched"),
        ((*WORLD, "--mixed_precision", "bf16"), {"precision": "bf16"}, "bf16: as launched"),
        ((*WORLD, "--mixed_precision", "fp16"), {"precision": "fp16"}, "fp16: as launched"),
        (
            (*DEEPSPEED, "--zero_stage", "3", "--mixed_precision", "bf16", "--gradient_accumulation_steps", "4"),
            {"engine": "zero3", "precision": "bf16", "micro_batches": 4},
            "engine zero3, bf16, 4 micro-batches: as launched",
        ),
        (
            (*WORLD, "--gradient_accumulation_steps", "2"),  # in no variable: only in the launcher's command line
            {"micro_batches": 2},
            "2 micro-batches: as launched",
        ),
        ((*WORLD, "--cpu"), {"device": "cpu"}, "device cpu: as launched"),
    ],
    ids=lambda value: (
        " ".join(value).replace("--", "").replace(" ".join(WORLD).replace("--", ""), "")[:60]
        if isinstance(value, tuple)
        else ""
    ),
)
def test_a_wish_is_adopted_where_the_flag_was_not_given(
    monkeypatch: pytest.MonkeyPatch, flags: tuple[str, ...], expected: dict[str, Any], said: str
) -> None:
    launched(monkeypatch, *flags)
    config, line = as_launched(Flags(images=5))
    assert config == RunConfig(images=5, **expected)
    assert line == said


def test_a_flag_that_says_the_same_is_fine_and_nothing_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    launched(
        monkeypatch, *DEEPSPEED, "--zero_stage", "3", "--mixed_precision", "bf16", "--gradient_accumulation_steps=4"
    )
    config, line = as_launched(Flags(engine="zero3", precision="bf16", micro_batches=4))
    assert (config.engine, config.precision, config.micro_batches, line) == ("zero3", "bf16", 4, "")


@pytest.mark.parametrize("engine", ["ddp", "zero1", "zero2", "zero3", "fsdp2"])
def test_without_wishes_every_flag_is_fine(monkeypatch: pytest.MonkeyPatch, engine: Any) -> None:
    """`mixed_precision: no` and one accumulation step are what is written where nobody wishes for anything."""
    launched(monkeypatch, *WORLD, "--mixed_precision", "no", "--gradient_accumulation_steps", "1")
    config, line = as_launched(Flags(engine=engine, precision="bf16", micro_batches=4))
    assert (config.engine, config.precision, config.micro_batches, line) == (engine, "bf16", 4, "")


@pytest.mark.parametrize(
    ("flags", "given", "message"),
    [
        ((*DEEPSPEED, "--zero_stage", "3"), {"engine": "ddp"}, r"--engine ddp contradicts .* zero_stage 3 \(zero3\)"),
        (DEEPSPEED, {"engine": "fsdp2"}, r"--engine fsdp2 contradicts the launcher's DeepSpeed, stage 2 \(zero2\)"),
        (FSDP, {"engine": "zero2"}, r"--engine zero2 contradicts the launcher's FSDP \(fsdp2\): leave one"),
        (
            (*WORLD, "--mixed_precision", "bf16"),
            {"precision": "fp32"},
            "--precision fp32 contradicts .*mixed_precision",
        ),
        (
            (*DEEPSPEED, "--gradient_accumulation_steps", "4"),
            {"micro_batches": 2},
            "--micro-batches 2 contradicts .* 4",
        ),
        ((*WORLD, "--gradient_accumulation_steps", "4"), {"micro_batches": 1}, "--micro-batches 1 contradicts .* 4"),
        ((*WORLD, "--cpu"), {"device": "cuda"}, "--device cuda contradicts the launcher's use_cpu"),
    ],
)
def test_a_flag_that_says_otherwise_is_an_error_with_both_names(
    monkeypatch: pytest.MonkeyPatch, flags: tuple[str, ...], given: dict[str, Any], message: str
) -> None:
    launched(monkeypatch, *flags)
    with pytest.raises(LaunchError, match=message):
        as_launched(Flags(**given))


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (
            (*WORLD, "--dynamo_backend", "inductor"),
            "dynamo_backend inductor cannot be honoured: networks are not compiled",
        ),
        ((*WORLD, "--use_fsdp"), "fsdp_version 1 cannot be honoured: .* use --fsdp_version 2"),
        ((*FSDP, "--fsdp_offload_params", "true"), "fsdp_offload_params true"),
        ((*FSDP, "--fsdp_reshard_after_forward", "false"), "fsdp_reshard_after_forward false"),
        ((*FSDP, "--fsdp_activation_checkpointing", "true"), "fsdp_activation_checkpointing true"),
        ((*DEEPSPEED, "--offload_optimizer_device", "cpu"), "offload_optimizer_device cpu"),
        ((*DEEPSPEED, "--offload_param_device", "nvme"), "offload_param_device nvme"),
        ((*DEEPSPEED, "--deepspeed_moe_layer_cls_names", "Experts"), "deepspeed_moe_layer_cls_names experts"),
        ((*DEEPSPEED, "--zero_stage", "4"), "zero_stage 4: ZeRO has the stages 0, 1, 2 and 3"),
        ((*WORLD, "--use_megatron_lm"), "use_megatron_lm true"),
        ((*FSDP, "--use_parallelism_config"), "use_parallelism_config true"),
    ],
)
def test_what_cannot_be_honoured_is_refused_by_name(
    monkeypatch: pytest.MonkeyPatch, flags: tuple[str, ...], message: str
) -> None:
    launched(monkeypatch, *flags)
    with pytest.raises(LaunchError, match=message):
        as_launched(Flags())


def test_fp8_is_refused_by_name(monkeypatch: pytest.MonkeyPatch) -> None:
    """Accelerate itself wants fp8's software first, so only the variable can be tried here."""
    monkeypatch.setenv("ACCELERATE_MIXED_PRECISION", "fp8")
    with pytest.raises(LaunchError, match="mixed_precision fp8 cannot be honoured: use bf16, fp16 or no"):
        as_launched(Flags())


def test_variables_of_another_distributed_type_mean_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FSDP_OFFLOAD_PARAMS", "true")
    monkeypatch.setenv("ACCELERATE_DEEPSPEED_OFFLOAD_PARAM_DEVICE", "cpu")
    assert as_launched(Flags()) == (RunConfig(), "")


def test_a_plain_accelerate_config_file_decides(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """As `accelerate config` writes them: DeepSpeed with ZeRO 3 in the default file, FSDP in a named one."""
    common = {"compute_environment": "LOCAL_MACHINE", "num_machines": 1, "num_processes": 2, "main_process_port": 0}
    zero = {
        "gradient_accumulation_steps": 4,
        "offload_optimizer_device": "none",
        "offload_param_device": "none",
        "zero3_init_flag": False,
        "zero3_save_16bit_model": False,
        "zero_stage": 3,
    }
    sharded = {
        "fsdp_activation_checkpointing": False,
        "fsdp_auto_wrap_policy": "TRANSFORMER_BASED_WRAP",
        "fsdp_cpu_ram_efficient_loading": True,
        "fsdp_offload_params": False,
        "fsdp_reshard_after_forward": True,
        "fsdp_state_dict_type": "SHARDED_STATE_DICT",
        "fsdp_version": 2,
    }
    kinds = {
        "default": common | {"distributed_type": "DEEPSPEED", "deepspeed_config": zero, "mixed_precision": "bf16"},
        "named": common | {"distributed_type": "FSDP", "fsdp_config": sharded, "mixed_precision": "fp16"},
    }
    for name, written in kinds.items():
        (tmp_path / f"{name}.yaml").write_text(yaml.safe_dump(written))
    default_file(monkeypatch, tmp_path / "default.yaml")
    with monkeypatch.context() as inside:
        launched(inside)
        assert as_launched(Flags())[1] == "engine zero3, bf16, 4 micro-batches: as launched"
    with monkeypatch.context() as inside:
        launched(inside, "--config_file", str(tmp_path / "named.yaml"))
        assert as_launched(Flags())[1] == "engine fsdp2, fp16: as launched"


@pytest.mark.parametrize("stage", [1, 2, 3])
def test_our_deepspeed_files_are_adopted(monkeypatch: pytest.MonkeyPatch, stage: int) -> None:
    launched(monkeypatch, *DEEPSPEED, "--deepspeed_config_file", str(ROOT / f"launch/deepspeed/zero{stage}.json"))
    assert as_launched(Flags())[1] == f"engine zero{stage}: as launched"


def test_a_deepspeed_file_of_the_user_s_own(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    usual = {
        "bf16": {"enabled": True},
        "fp16": {"enabled": False, "loss_scale": 0, "initial_scale_power": 16},
        "zero_optimization": {"stage": 3, "reduce_bucket_size": "auto"},
        "gradient_accumulation_steps": 2,
        "gradient_clipping": "auto",
        "train_batch_size": "auto",
        "train_micro_batch_size_per_gpu": "auto",
    }
    launched(monkeypatch, *deepspeed_file(tmp_path, **usual))
    assert as_launched(Flags())[1] == "engine zero3, bf16, 2 micro-batches: as launched"
    with pytest.raises(LaunchError, match=r"--precision fp16 contradicts .*mine\.json, bf16\.enabled"):
        as_launched(Flags(precision="fp16"))
    offloaded = {"stage": 2, "offload_optimizer": {"device": "cpu"}}
    deepspeed_file(tmp_path, **usual | {"zero_optimization": offloaded, "gradient_clipping": 1.0})
    with pytest.raises(
        LaunchError, match=r"asks for gradient_clipping, zero_optimization\.offload_optimizer\.device, which cannot"
    ):
        as_launched(Flags())
    (tmp_path / "mine.json").write_text("[]")
    with pytest.raises(LaunchError, match="cannot be read"):
        as_launched(Flags())


def test_a_stage_and_a_file_that_say_two_things(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    launched(monkeypatch, *deepspeed_file(tmp_path, zero_optimization={"stage": 2}), "--zero_stage", "3")
    with pytest.raises(LaunchError, match=r"zero_stage 3 \(zero3\) contradicts .*zero_optimization\.stage 2 \(zero2\)"):
        as_launched(Flags())


def test_clipping_is_the_recipe_s(monkeypatch: pytest.MonkeyPatch) -> None:
    recipe = small_recipe()
    launched(monkeypatch, *DEEPSPEED, "--gradient_clipping", "1.0")
    with pytest.raises(LaunchError, match=r"gradient_clipping 1\.0 is not the recipe's: .*generator\.clip_norm=1\.0"):
        check_clipping(recipe)
    clipped = {
        side: dataclasses.replace(getattr(recipe, side), clip_norm=1.0) for side in ("generator", "discriminator")
    }
    check_clipping(dataclasses.replace(recipe, **clipped))
