"""Network classes that the user names on the command line; a checkpoint alone imports nothing."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from framework.checkpoint import Retention, TensorSlice, Writer
from framework.commands.export import export
from framework.networks import stylegan2
from framework.recipe.description import network_from
from framework.sampling.classes import network_classes
from framework.utils.errors import FrameworkError

MINE = '''
from sibling import CHANNELS
from framework.networks import stylegan2

class Generator(stylegan2.Generator):
    """A StyleGAN2 under another name."""

class Other(Generator):
    pass

NUMBER = CHANNELS
'''
OPTIONS = {"resolution": 8, "channels": 3, "z_dim": 4, "w_dim": 4, "channel_base": 32, "channel_max": 4}


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "mine.py"
    path.write_text(MINE)
    path.with_name("sibling.py").write_text("CHANNELS = 3\n")
    return path


def test_a_class_is_found_whatever_its_module_was_called_in_training(file: Path) -> None:
    classes = network_classes([f"{file}:Generator", f"{file}:Other"])
    assert sorted(classes) == ["Generator", "Other"]
    for name in ("__main__.Generator", "mine.Generator", "folder.mine.Generator"):
        network = network_from({"class": name, "options": OPTIONS}, classes=classes)
        assert type(network) is classes["Generator"]
    assert str(file.parent) not in sys.path
    own = network_from({"class": "framework.networks.stylegan2.Generator", "options": OPTIONS}, classes=classes)
    assert type(own) is stylegan2.Generator, "the framework's classes are its own"


def test_without_the_flag_the_message_names_it_and_nothing_is_imported(file: Path) -> None:
    before = set(sys.modules)
    for name, shown in {"__main__.Generator": "RECIPE.py", "nets.mine.Generator": "nets/mine.py"}.items():
        with pytest.raises(FrameworkError, match=rf"--network {shown}:Generator"):
            network_from({"class": name, "options": OPTIONS})
    assert set(sys.modules) == before


@pytest.mark.parametrize(
    ("place", "message"),
    [
        ("{file}", r"write it as FILE\.py:CLASS"),
        ("{file}:", r"write it as FILE\.py:CLASS"),
        ("mine:Generator", r"write it as FILE\.py:CLASS"),
        ("nowhere.py:Generator", r"there is no file .*nowhere\.py"),
        ("{file}:Generater", r"has no network class 'Generater'; nearest: Generator\. It has: Generator, Other"),
        ("{file}:NUMBER", r"has no network class 'NUMBER'"),
    ],
)
def test_a_place_that_names_no_class_is_refused(file: Path, place: str, message: str) -> None:
    with pytest.raises(FrameworkError, match=message):
        network_classes([place.format(file=file)])


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("import nothing_of_this_name", "fails: ModuleNotFoundError: No module named 'nothing_of_this_name'"),
        ("import sys; sys.exit(2)", r"fails: SystemExit: 2; launch\(\.\.\.\) belongs under `if __name__"),
    ],
)
def test_a_file_that_cannot_be_imported_is_named_with_its_error(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "broken.py"
    path.write_text(text)
    for _ in range(2):
        with pytest.raises(FrameworkError, match=message):
            network_classes([f"{path}:Generator"])


def test_two_classes_of_one_name_are_refused(file: Path) -> None:
    other = file.with_name("other.py")
    other.write_text(MINE)
    with pytest.raises(FrameworkError, match="another class Generator was given"):
        network_classes([f"{file}:Generator", f"{other}:Generator"])


def test_a_network_of_ones_own_is_exported(file: Path, tmp_path: Path) -> None:
    torch.manual_seed(0)
    network = stylegan2.Generator(**OPTIONS)
    tensors = [("ema", n, p.detach()) for n, p in network.named_parameters()]
    tensors += [("ema_buffer", n, b) for n, b in network.named_buffers()]
    pieces = [
        TensorSlice(key=f"generator/{k}/{n}", start=0, values=t.reshape(-1), shape=tuple(t.shape))
        for k, n, t in tensors
    ]
    recipe = {"generator": {"network": {"class": "__main__.Generator", "options": OPTIONS}}}
    with Writer(tmp_path / "run/checkpoints", rank=0, world=1, token="t", retention=Retention(last=1)) as writer:
        writer.save(64, pieces, documents={"recipe.json": recipe})
    out = tmp_path / "out.safetensors"
    with pytest.raises(FrameworkError, match=r"--network RECIPE\.py:Generator"):
        export(tmp_path / "run", to="nvlabs-stylegan2", out=out)
    export(tmp_path / "run", to="nvlabs-stylegan2", out=out, network=(f"{file}:Generator",))
    assert torch.equal(load_file(out)["mapping.w_avg"], network.mapping.w_avg.value)  # type: ignore[union-attr]
