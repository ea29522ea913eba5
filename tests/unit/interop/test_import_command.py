"""`framework import` and `framework export`: from foreign files to a folder that can be sampled, and back."""

from __future__ import annotations

import pickle
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import safetensors.torch
import torch
from torch import Tensor, nn

from framework import interop
from framework.checkpoint import resolve
from framework.commands.export import export
from framework.commands.import_ import import_
from framework.commands.sample import SampleOptions, sample
from framework.interop.export import export as state_of
from framework.networks import stylegan2
from framework.sampling.load import load_generator
from framework.utils.errors import FrameworkError
from tests.golden import load as recorded

from .pickles import foreign_modules, write_network_pickle


def parts(file: str) -> dict[str, dict[str, Tensor]]:
    """The recorded states of generator and discriminator."""
    params = recorded(file, "net").params
    return {side: {name[2:]: t for name, t in params.items() if name.startswith(f"{side}.")} for side in "GD"}


def module_of(state: dict[str, Tensor]) -> nn.Module:
    """Nested modules whose `state_dict()` is `state`."""
    root = nn.Module()
    for name, tensor in state.items():
        *path, last = name.split(".")
        module = root
        for part in path:
            if part not in module._modules:
                module.add_module(part, nn.Module())
            module = module.get_submodule(part)
        module.register_buffer(last, tensor)
    return root


@pytest.fixture
def snapshot(tmp_path: Path) -> Path:
    """A pickle as the StyleGAN2 training program would have written it; the average differs from the generator."""
    states = parts("stylegan2_tiny_uncond_resnet")
    averaged = {name: tensor * 0.5 if name.endswith("const") else tensor for name, tensor in states["G"].items()}
    options = {"z_dim": 16, "synthesis_kwargs": {"conv_clamp": 256, "channel_base": 128}}
    epilogue: dict[str, Any] = {"epilogue_kwargs": {"mbstd_group_size": 2}}
    path = tmp_path / "network-snapshot-000100.pkl"
    networks = {"G": (states["G"], options), "G_ema": (averaged, options), "D": (states["D"], epilogue)}
    write_network_pickle(path, **{key: (module_of(state), given) for key, (state, given) in networks.items()})
    return path


@torch.no_grad()
def test_stylegan2_there_and_back(snapshot: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "imported"
    import_(snapshot, kind="nvlabs-stylegan2", out=out)
    printed = capsys.readouterr().out
    for expected in (
        "generator: stylegan2.Generator, ",
        "average: ",
        "discriminator: ",
        "resolution=16",
        "conv_clamp=256",
    ):
        assert expected in printed
    checkpoint = resolve(out)
    states = parts("stylegan2_tiny_uncond_resnet")
    assert torch.equal(checkpoint.full("generator/weight/synthesis.blocks.4.const"), states["G"]["synthesis.b4.const"])
    averaged = checkpoint.full("generator/ema/synthesis.blocks.4.const")
    assert torch.equal(averaged, 0.5 * states["G"]["synthesis.b4.const"])
    assert checkpoint.document("recipe.json")["discriminator"]["network"]["options"]["stddev_group_size"] == 2

    case = recorded("stylegan2_tiny_uncond_resnet", "net")
    raw = load_generator(out, averaged=False)
    assert raw.classes == 0
    torch.testing.assert_close(raw.network(case.inputs["z"]), case.outputs["img_noise_const"], rtol=1e-4, atol=1e-5)
    sample(str(out), options=SampleOptions(out=tmp_path / "grid.png", grid="2x2"))
    assert (tmp_path / "grid.png").stat().st_size > 0

    for side, name in (("generator", "G"), ("discriminator", "D")):
        for suffix in (".npz", ".safetensors"):
            file = tmp_path / f"{name}{suffix}"
            export(out, to="nvlabs-stylegan2", out=file, side=side, weights="raw")  # type: ignore[arg-type]
            read = dict(np.load(file)) if suffix == ".npz" else safetensors.torch.load_file(file)
            assert read.keys() == states[name].keys()
            for key, tensor in states[name].items():
                assert torch.equal(torch.as_tensor(read[key]), tensor), key
    # What was exported can be imported again.
    import_(
        tmp_path / "G.npz", kind="nvlabs-stylegan2", out=tmp_path / "again", discriminator=tmp_path / "D.safetensors"
    )
    for key in resolve(tmp_path / "again").keys("generator/weight/"):
        assert torch.equal(resolve(tmp_path / "again").full(key), checkpoint.full(key))


@pytest.mark.parametrize("architecture", ["skip", "resnet", "orig"])
@pytest.mark.parametrize("classes", [0, 3])
@torch.no_grad()
def test_every_stylegan2_goes_there_and_back(architecture: Any, classes: int) -> None:
    torch.manual_seed(0)
    options: dict[str, Any] = {"resolution": 16, "classes": classes, "architecture": architecture}
    widths = {"channel_base": 64, "channel_max": 8}
    generator = stylegan2.Generator(z_dim=6, w_dim=5, mapping_layers=3, **options, **widths)
    discriminator = stylegan2.Discriminator(
        mapping_layers=2, mapping_width=7, stddev_group_size=2, conv_clamp=0.1, **options, **widths
    )
    labels = torch.tensor([0, 2, 1, 2]) if classes else None
    for network, given, side in (
        (generator, torch.randn(4, 6), "generator"),
        (discriminator, torch.randn(4, 3, 16, 16), "discriminator"),
    ):
        for parameter in network.parameters():
            parameter.add_(torch.randn_like(parameter))
        overrides = {"stddev_group_size": 2, "conv_clamp": 0.1} if side == "discriminator" else {}
        again = interop.load("nvlabs-stylegan2", side, state_of("nvlabs-stylegan2", network), **overrides)  # type: ignore[arg-type]
        assert type(again) is type(network)
        for (name, tensor), (_, copy) in zip(network.state_dict().items(), again.state_dict().items(), strict=True):
            assert torch.equal(tensor, copy), name
        assert torch.equal(again(given, labels), network.eval()(given, labels))


def test_only_stylegan2_can_be_written() -> None:
    with pytest.raises(FrameworkError, match="StyleGAN2"):
        state_of("nvlabs-stylegan2", nn.Linear(1, 1))
    with pytest.raises(FrameworkError, match="studiogan"):
        state_of("studiogan", nn.Linear(1, 1))


def test_generator_and_discriminator_in_files_of_their_own(tmp_path: Path) -> None:
    states = parts("studiogan_tiny_sagan32")
    for side, state in states.items():
        torch.save({"state_dict": state, "step": 3, "optimizer": {}}, tmp_path / f"{side}.pth")
    averaged = {name: t + 1 if name == "conv2d5.bias" else t for name, t in states["G"].items()}
    torch.save({"state_dict": averaged}, tmp_path / "G_ema.pth")
    out = tmp_path / "out"
    import_(
        tmp_path / "G.pth",
        kind="studiogan",
        out=out,
        average=tmp_path / "G_ema.pth",
        discriminator=tmp_path / "D.pth",
        set=("discriminator.rectified_shortcut=true",),
    )
    checkpoint = resolve(out)
    document = checkpoint.document("recipe.json")
    assert document["data"] == {"resolution": 32, "channels": 3, "classes": 5}
    assert document["discriminator"]["network"]["options"]["rectified_shortcut"] is True
    assert torch.equal(
        checkpoint.full("generator/weight/to_image.bias") + 1, checkpoint.full("generator/ema/to_image.bias")
    )
    case = recorded("studiogan_tiny_sagan32", "net")
    direct = interop.load("studiogan", "generator", states["G"])
    network = load_generator(out, averaged=False).network
    assert torch.equal(
        network(case.inputs["z"], case.inputs["y_fake"]), direct(case.inputs["z"], case.inputs["y_fake"])
    )


def test_progan_file_with_its_configuration(tmp_path: Path) -> None:
    """pytorch_GAN_zoo keeps three networks and an object of its own in one file."""
    states = parts("progan_tiny_stable")
    path = tmp_path / "celeba.pt"
    with foreign_modules():
        config = sys.modules["models.utils.config"].BaseConfig()
        config.depthScales, config.latent = [8, 8], 8
        torch.save({"config": config, "netG": states["G"], "netD": states["D"], "avgG": states["G"]}, path)
    import_(path, kind="gan-zoo-progan", out=tmp_path / "out")
    checkpoint = resolve(tmp_path / "out")
    assert checkpoint.keys("discriminator/weight/")
    assert checkpoint.keys("generator/ema/")


def test_wrong_arguments(snapshot: Path, tmp_path: Path) -> None:
    def refused(message: str, file: Path = snapshot, kind: str = "nvlabs-stylegan2", **arguments: Any) -> None:
        with pytest.raises(FrameworkError, match=message):
            import_(file, **{"kind": kind, "out": tmp_path / "new", **arguments})
        assert not (tmp_path / "new").exists()

    refused("nearest: .*nvlabs-stylegan2", kind="nvlabs-stylegan")
    refused(r"G\): not the state of a nvlabs-stylegan3 generator", kind="nvlabs-stylegan3")
    refused("no weights at netG", kind="gan-zoo-progan")
    refused("generator.OPTION=VALUE", set=("conv_clamp=1",))
    refused("has no option 'clamp'", set=("generator.clamp=1",))
    refused("shapes do not fit", set=("generator.z_dim=4",))
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "file").touch()
    refused("choose a new folder", out=tmp_path / "full")
    path = tmp_path / "evil.pkl"
    path.write_bytes(pickle.dumps({"G": print}))
    refused("builtins.print.*refused", path)
