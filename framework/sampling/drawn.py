"""What a run's averaged network draws, in the words of its checkpoints: these are sampled without the recipe.

There are three kinds: pictures from latents (the usual one), vectors from latents, and translations of pictures.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from framework.data.fields import Image
from framework.networks.latents import Categorical, Gaussian, Latent, Uniform
from framework.sampling.sampler import LatentSampler, Sampler
from framework.sampling.stored import StoredSamples
from framework.sampling.translation import TranslationSampler
from framework.utils.errors import FrameworkError

_LATENTS = (Gaussian, Uniform, Categorical)
_KINDS = ("pictures", "vectors", "translations")
_MOST_LATENTS = 64


@dataclass(frozen=True, kw_only=True)
class Drawn:
    """What is drawn, and from what."""

    kind: Literal["pictures", "vectors", "translations"] = "pictures"
    name: str = "image"
    """The field that samples are samples of."""
    latents: tuple[Latent, ...] = ()
    """What the network is fed, where that is not one Gaussian vector."""
    source: Image | None = None
    """The field that is translated; None where nothing is."""
    target: Image | None = None
    """The field that it is translated to; None where nothing is."""

    def to_json(self) -> dict[str, Any]:
        """Return what `from_json` reads."""
        told: dict[str, Any] = {"kind": self.kind, "name": self.name}
        if self.latents:
            told["latents"] = [{"type": type(latent).__name__, **_fields_of(latent)} for latent in self.latents]
        for role, field in (("source", self.source), ("target", self.target)):
            if field is not None:
                told[role] = {"name": field.name, "size": field.size, "channels": field.channels}
        return told

    @classmethod
    def from_json(cls, told: object) -> Drawn:
        """Return what `to_json` wrote; None, of older checkpoints, means pictures.

        Raises:
            FrameworkError: it is something else; names the entry.
        """
        if told is None:
            return cls()
        if not isinstance(told, Mapping) or told.get("kind") not in _KINDS or not isinstance(told.get("name"), str):
            raise FrameworkError(f"samples: {str(told)[:80]} does not say what is drawn, one of {', '.join(_KINDS)}")
        images = {role: _image(told[role], role) for role in ("source", "target") if role in told}
        if told["kind"] == "translations" and len(images) < 2:
            raise FrameworkError("samples: translations need a source and a target")
        latents = told.get("latents", [])
        if not isinstance(latents, list) or len(latents) > _MOST_LATENTS:
            raise FrameworkError(f"samples.latents: must be a list of at most {_MOST_LATENTS}")
        return cls(kind=told["kind"], name=told["name"], latents=tuple(map(_latent, latents)), **images)

    @property
    def walks(self) -> bool:
        """Whether there is a latent vector to walk through from picture to picture."""
        return self.kind == "pictures" and not self.latents

    def refuse_options_of_latents(self, **given: object) -> None:
        """Refuse flags that say how latents and labels are drawn, where pictures are translated instead.

        Args:
            given: the values of flags by name; what is false was not given.

        Raises:
            FrameworkError: one was given; names the flag.
        """
        for name, value in given.items():
            if value and self.kind == "translations":
                flag = name.replace("_", "-")
                raise FrameworkError(f"--{flag}: this network translates pictures and has no latents; leave it out")

    def sampler(
        self,
        *,
        classes: int,
        seed: int,
        held_out: StoredSamples | None = None,
        truncation: float | None = None,
        options: Mapping[str, Any] | None = None,
    ) -> Sampler:
        """Return what draws samples by position.

        Args:
            classes: number of classes of the data; 0 without.
            seed: of everything random.
            held_out: the pairs whose sources are translated.
            truncation: see `LatentSampler`.
            options: see `LatentSampler`.

        Raises:
            FrameworkError: translations need pairs, and there are none.
        """
        if self.kind == "translations":
            if held_out is None:
                raise FrameworkError("translations are drawn of real pictures: name packed pairs, with --data")
            assert self.source is not None
            assert self.target is not None
            return TranslationSampler(samples=held_out, source=self.source, target=self.target, seed=seed)
        return LatentSampler(
            seed=seed,
            classes=classes,
            truncation=truncation,
            options=options or {},
            vectors=self.name if self.kind == "vectors" else "",
            codes=self.latents,
        )


def _fields_of(latent: Latent) -> dict[str, Any]:
    assert dataclasses.is_dataclass(latent)
    assert not isinstance(latent, type)
    return dataclasses.asdict(latent)


def _latent(told: object) -> Latent:
    """Return a latent of this package; one of a user's own cannot be rebuilt from its name.

    Raises:
        FrameworkError: it is none of ours, or has other fields.
    """
    own = {cls.__name__: cls for cls in _LATENTS}
    if not isinstance(told, Mapping) or str(told.get("type")) not in own:
        raise FrameworkError(f"samples.latents: {str(told)[:80]} is none of {', '.join(own)}")
    options = {str(name): value for name, value in told.items() if name != "type"}
    try:
        return own[str(told["type"])](**options)
    except TypeError as error:
        raise FrameworkError(f"samples.latents: {error}") from None


def _image(told: object, role: str) -> Image:
    """Return the field of a picture.

    Raises:
        FrameworkError: it is not described by name, size and channels.
    """
    if not isinstance(told, Mapping) or told.keys() != {"name", "size", "channels"}:
        raise FrameworkError(f"samples.{role}: {str(told)[:80]} must have name, size and channels")
    size = told["size"]
    return Image(told["name"], tuple(size) if isinstance(size, list) else size, channels=told["channels"])
