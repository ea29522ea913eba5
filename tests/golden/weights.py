"""The weights of public implementations under our names: which of their tensors is which of ours."""

import re
from collections.abc import Callable, Mapping

from torch import Tensor, nn

ORIGINAL, U, V = (f"parametrizations.weight.{name}" for name in ("original", "0.u", "0.v"))

Rules = Mapping[str, str | Callable[[re.Match[str]], str]]
"""Pattern to replacement, applied in order to a recorded name."""

STUDIOGAN: Rules = {
    r"^linear[01]\.": "linear.",
    r"^blocks\.(\d+)\.0\.": r"blocks.\1.",
    r"\.bn([12])\.bn\.": r".norm\1.norm.",
    r"\.bn([12])\.": r".norm\1.",
    r"\.conv2d0\.": ".shortcut.",
    r"\.conv2d([12])\.": r".conv\1.",
    r"\.conv1x1_(theta|phi|g)\.": r".\1.",
    r"\.conv1x1_attn\.": ".o.",
    r"\.sigma$": ".gamma",
    r"^bn4\.": "norm.",
    r"^conv2d5\.": "to_image.",
    r"\.weight_orig$": f".{ORIGINAL}",
    r"\.weight_u$": f".{U}",
    r"\.weight_v$": f".{V}",
}
BIGGAN: Rules = {
    r"^blocks\.(\d+)\.0\.": r"blocks.\1.",
    r"\.conv_sc\.": ".shortcut.",
    r"\.bn([12])\.stored_(mean|var)$": r".norm\1.norm.running_\2",
    r"\.bn([12])\.": r".norm\1.",
    r"^output_layer\.0\.stored_(mean|var)$": r"norm.running_\1",
    r"^output_layer\.0\.gain$": "norm.weight",
    r"^output_layer\.0\.bias$": "norm.bias",
    r"^output_layer\.2\.": "to_image.",
    r"^embed\.": "embedding.",
    r"\.u0$": f".{U}",
    r"^((?!.*norm).*)\.weight$": rf"\1.{ORIGINAL}",
}
MIMICRY_GENERATOR: Rules = {
    r"^l1\.": "linear.",
    r"^block(\d)\.": lambda match: f"blocks.{int(match[1]) - 2}.",
    r"\.c_sc\.": ".shortcut.",
    r"\.c([12])\.": r".conv\1.",
    r"\.b([12])\.": r".norm\1.",
    r"^b5\.": "norm.",
    r"^c5\.": "to_image.",
}
MIMICRY_DISCRIMINATOR: Rules = {
    r"^l5\.": "linear.",
    r"^block(\d)\.": lambda match: f"blocks.{int(match[1]) - 1}.",
    r"\.c_sc\.": ".shortcut.",
    r"\.c([12])\.": r".conv\1.",
    r"\.weight_orig$": f".{ORIGINAL}",
    r"\.weight_u$": f".{U}",
    r"\.weight_v$": f".{V}",
}


def renamed(recorded: Mapping[str, Tensor], prefix: str, rules: Rules) -> dict[str, Tensor]:
    """The recorded tensors under `prefix` by our names, in our layouts."""
    ours: dict[str, Tensor] = {}
    for key, tensor in recorded.items():
        name = key.removeprefix(prefix)
        if not key.startswith(prefix) or name.endswith(("num_batches_tracked", ".sv0")):
            continue
        for pattern, replacement in rules.items():
            name = re.sub(pattern, replacement, name)
        # Attention has its own place in StudioGAN's list of blocks.
        name = re.sub(r"^blocks\.\d+\.(theta|phi|g|o|gamma)(\.|$)", r"attention.\1\2", name)
        if name.endswith(".u"):
            tensor = tensor.flatten()
        if rules is BIGGAN and re.search(r"\.(gain|bias)\.weight$", name):
            tensor = tensor.t()  # their embedding is (classes, channels)
        assert name not in ours, f"{key} and another tensor both map to {name}"
        ours[name] = tensor
    return ours


def renumbered(state: dict[str, Tensor], network: nn.Module) -> dict[str, Tensor]:
    """Close the gap that StudioGAN's attention leaves in the numbers of the blocks."""
    numbers = sorted({int(key.split(".")[1]) for key in state if key.startswith("blocks.")})
    assert len(numbers) == len(network.blocks)
    order = {number: index for index, number in enumerate(numbers)}
    return {re.sub(r"^blocks\.(\d+)", lambda m: f"blocks.{order[int(m[1])]}", key): t for key, t in state.items()}


def fill(network: nn.Module, state: dict[str, Tensor]) -> None:
    """Load every recorded tensor; only spectral vectors `v`, which some peers recompute from `u`, may be absent."""
    missing, unexpected = network.load_state_dict(renumbered(state, network), strict=False)
    assert not unexpected
    assert all(name.endswith(f".{V}") for name in missing)
