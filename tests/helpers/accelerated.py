"""What `accelerate launch` tells the processes it starts, computed by Accelerate itself, without starting any."""

from __future__ import annotations

from pathlib import Path

import pytest
from accelerate.commands import launch
from accelerate.commands.config import config_args
from accelerate.utils.launch import prepare_deepspeed_cmd_env, prepare_multi_gpu_env, prepare_simple_launcher_cmd_env

from framework.runtime import launchers
from framework.train import launcher

OURS = ("ACCELERATE_", "FSDP_", "PARALLELISM_CONFIG_", "MASTER_")


def default_file(monkeypatch: pytest.MonkeyPatch, path: Path) -> None:
    """Accelerate's default configuration is `path`, whoever runs the tests."""
    monkeypatch.setattr(config_args, "default_config_file", str(path))
    monkeypatch.setattr(launch, "default_config_file", str(path))


def launched(monkeypatch: pytest.MonkeyPatch, *flags: str) -> None:
    """As in a process that `accelerate launch FLAGS recipe.py` has started, on a machine without a GPU."""
    arguments = [*flags, "recipe.py", "--num_processes", "77", "--gradient_accumulation_steps", "77"]
    args, defaults, _ = launch._validate_launch_command(launch.launch_command_parser().parse_args(arguments))
    if args.use_deepspeed:
        fields = list(defaults.deepspeed_config) if defaults else []
        args.deepspeed_fields_from_accelerate_config = ",".join(fields)
        _, told = prepare_deepspeed_cmd_env(args)
    elif args.use_fsdp or args.use_megatron_lm or args.multi_gpu:
        told = prepare_multi_gpu_env(args)
    else:
        _, told = prepare_simple_launcher_cmd_env(args)
    for name, value in told.items():
        if name.startswith(OURS):
            monkeypatch.setenv(name, value)
    asked = launchers.parse(arguments)
    monkeypatch.setattr(launchers, "asked_of_accelerate", lambda: asked)
    monkeypatch.setattr(launcher, "asked_of_accelerate", lambda: asked)
