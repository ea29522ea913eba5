"""Parameter counts of the published StyleGAN2 configurations, as their own programs build them."""

from __future__ import annotations

import pytest
import torch

from framework.networks import stylegan2

HALF = {"channel_base": 16_384}
CIFAR = {"resolution": 32, "generator": {"mapping_layers": 2}, "discriminator": {"architecture": "orig"}}
BENCH = {"channel_base": 8_192, "channel_max": 128}

# Options of both networks and of either; parameters of the generator and of the discriminator.
KNOWN = {
    "ADA paper256": ({"resolution": 256, **HALF}, 24_767_458, 24_001_089),
    "ADA paper512": ({"resolution": 512}, 30_276_583, 28_982_849),
    "ADA paper1024": ({"resolution": 1024}, 30_370_060, 29_012_513),
    "ADA cifar": (CIFAR, 19_947_539, 20_720_641),
    "ADA cifar, 10 classes": ({**CIFAR, "classes": 10}, 20_215_315, 23_089_664),
    "ADA auto at 256": ({"resolution": 256, **HALF, "generator": {"mapping_layers": 2}}, 23_191_522, 24_001_089),
    "config-f at 32": ({"resolution": 32}, 21_523_475, 21_507_073),
    "config-f at 256": ({"resolution": 256}, 30_034_338, 28_864_129),
    "config-f at 512": ({"resolution": 512}, 30_276_583, 28_982_849),
    "config-f at 1024": ({"resolution": 1024}, 30_370_060, 29_012_513),
    "benchmark at 32": ({"resolution": 32, **BENCH}, 3_860_243, 1_346_305),
    "benchmark at 64": ({"resolution": 64, **BENCH}, 4_352_792, 1_657_857),
}


@pytest.mark.parametrize("name", KNOWN)
def test_parameters(name: str) -> None:
    options, *recorded = KNOWN[name]
    options = dict(options)
    own = {side: options.pop(side, {}) for side in ("generator", "discriminator")}
    with torch.device("meta"):
        generator = stylegan2.Generator(**options, **own["generator"])
        discriminator = stylegan2.Discriminator(**options, **own["discriminator"])
    ours = [sum(p.numel() for p in network.parameters()) for network in (generator, discriminator)]
    assert ours == recorded
    labels = torch.zeros(2, dtype=torch.int64, device="meta") if options.get("classes") else None
    images = generator(torch.zeros(2, 512, device="meta"), labels)
    assert images.shape == (2, 3, options["resolution"], options["resolution"])
    assert discriminator(images, labels).shape == (2,)
