"""A launcher's configuration that asks for something else than the flags is refused, never ignored."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from framework.runtime.session import LaunchError
from framework.train.config import RunConfig
from framework.train.launcher import check_launcher
from tests.helpers.launch import ROOT
from tests.helpers.play import small_recipe

RECIPE = small_recipe()


@pytest.fixture
def deepspeed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ACCELERATE_USE_DEEPSPEED", "true")
    monkeypatch.setenv("ACCELERATE_DEEPSPEED_CONFIG_FILE", str(ROOT / "launch/deepspeed/zero2.json"))


@pytest.mark.parametrize("engine", ["ddp", "zero1", "zero2", "zero3", "fsdp2"])
def test_without_wishes_every_engine_is_fine(engine: str) -> None:
    check_launcher(RECIPE, RunConfig(engine=engine))  # type: ignore[arg-type]


@pytest.mark.usefixtures("deepspeed")
def test_deepspeed_with_its_stage_is_fine_and_another_engine_is_not() -> None:
    check_launcher(RECIPE, RunConfig(engine="zero2"))
    with pytest.raises(LaunchError, match="asks for DeepSpeed, but this launch has --engine ddp: add --engine zero1"):
        check_launcher(RECIPE, RunConfig(engine="ddp"))
    with pytest.raises(LaunchError, match=r"zero2.json is not what --engine zero3 passes .* zero_optimization\.stage"):
        check_launcher(RECIPE, RunConfig(engine="zero3"))


@pytest.mark.usefixtures("deepspeed")
def test_a_file_of_the_user_s_own_is_not_read_in_silence(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    written = json.loads((ROOT / "launch/deepspeed/zero2.json").read_text())
    written |= {"gradient_clipping": 1.0, "bf16": {"enabled": True}}
    (tmp_path / "mine.json").write_text(json.dumps(written))
    monkeypatch.setenv("ACCELERATE_DEEPSPEED_CONFIG_FILE", str(tmp_path / "mine.json"))
    with pytest.raises(LaunchError, match=r"differing: bf16, gradient_clipping\).*launch/deepspeed/zero2.json"):
        check_launcher(RECIPE, RunConfig(engine="zero2"))
    monkeypatch.setenv("ACCELERATE_DEEPSPEED_CONFIG_FILE", str(tmp_path / "none.json"))
    with pytest.raises(LaunchError, match="cannot be read"):
        check_launcher(RECIPE, RunConfig(engine="zero2"))


@pytest.mark.usefixtures("deepspeed")
def test_a_stage_without_a_file(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ACCELERATE_DEEPSPEED_CONFIG_FILE", "None")
    monkeypatch.setenv("ACCELERATE_DEEPSPEED_ZERO_STAGE", "3")
    check_launcher(RECIPE, RunConfig(engine="zero3"))
    with pytest.raises(LaunchError, match="asks for ZeRO stage 3, but this launch has --engine zero1"):
        check_launcher(RECIPE, RunConfig(engine="zero1"))


def test_fsdp_and_precision(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ACCELERATE_USE_FSDP", "true")
    check_launcher(RECIPE, RunConfig(engine="fsdp2"))
    with pytest.raises(LaunchError, match="add --engine fsdp2"):
        check_launcher(RECIPE, RunConfig(engine="zero2"))
    monkeypatch.delenv("ACCELERATE_USE_FSDP")
    monkeypatch.setenv("ACCELERATE_MIXED_PRECISION", "bf16")
    check_launcher(RECIPE, RunConfig(precision="bf16"))
    with pytest.raises(LaunchError, match="asks for mixed_precision bf16, but this launch has --precision fp32"):
        check_launcher(RECIPE, RunConfig())
