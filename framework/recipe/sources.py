"""Where the training data comes from, as a recipe says it."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

from framework.recipe.checks import ADDED_LATER, OPERATIONAL, check_fields, require


class Field(Protocol):
    """One named part of every sample; see `framework.data.fields`."""

    @property
    def name(self) -> str:
        """The name by which games, terms and networks know it, unique in a recipe."""
        ...

    def derived(self) -> dict[str, int]:
        """Return the options that networks take from it unless their recipe names them."""
        ...


class DerivedField(Protocol):
    """A field that is computed on the device from others and from draws; see `framework.data.derived`."""

    @property
    def name(self) -> str:
        """The name by which games, terms and networks know it, unique in a recipe."""
        ...

    @property
    def of(self) -> str:
        """The name of the field that it is computed from."""
        ...

    def derived(self) -> dict[str, int]:
        """Return the options that networks take from it, without its name in front."""
        ...


class Source(Protocol):
    """A set of samples that are addressed by position: `Shards`, or rows that are computed."""

    @property
    def fields(self) -> tuple[Any, ...]:
        """The fields of a sample; empty for the usual ones, an image and perhaps a label."""
        ...

    @property
    def derive(self) -> tuple[Any, ...]:
        """The fields that are computed on the device."""
        ...

    @property
    def resolution(self) -> int:
        """The longer side of the first picture in pixels; 0 without one."""
        ...

    @property
    def channels(self) -> int:
        """The channels of the first picture; 0 without one."""
        ...

    @property
    def classes(self) -> int:
        """The number of classes of the label; 0 without one."""
        ...

    def derived(self) -> dict[str, int]:
        """Return the options that networks take from the data unless their recipe names them."""
        ...


IMPLIED = {"implied": True}
"""Metadata of a field that others decide where they are given; `--set` of another field computes it again."""


@dataclass(frozen=True, kw_only=True)
class Shards:
    """The training samples: WebDataset shards addressed by position.

    `location` is a folder made by `framework pack`, a glob or brace list of tars, an `http(s)://` folder or list, or
    `pipe:` commands. Relative paths are relative to the recipe file.

    A sample is an image and, with `classes`, a label: `Shards("faces", resolution=64, classes=10)` is short for
    `Shards("faces", fields=(Image("image", 64), Label("label", 10)))`. Where `fields` are given, they decide on
    `resolution`, `channels` and `classes`.

    Raises:
        RecipeError: a field that cannot work; names it.
    """

    location: str = field(metadata=OPERATIONAL, kw_only=False)
    resolution: int = field(default=0, metadata=IMPLIED)
    """Side of the images in pixels."""
    channels: int = field(default=3, metadata=IMPLIED)
    """1: grey, 3: RGB."""
    classes: int = field(default=0, metadata=IMPLIED)
    """Number of classes; 0: labels are not read."""
    flip: bool = False
    """Whether each sample is mirrored with probability 1/2, decided by its position."""
    window: int = 65_536
    """Number of samples among which the order is shuffled; the whole set when it is larger than the set."""
    fields: tuple[Field, ...] = field(default=(), metadata=ADDED_LATER)
    """The fields of a sample, from `framework.data`; (): the usual ones."""
    derive: tuple[DerivedField, ...] = field(default=(), metadata=ADDED_LATER)
    """Fields that are computed on the device from others and from the clock, in this order."""

    def __post_init__(self) -> None:
        check_fields(self)
        if self.fields:
            self._take_from_fields()
        else:
            require(self.resolution >= 1, f"Shards: resolution={self.resolution} must be at least 1")
            require(self.channels in (1, 3), f"data.channels={self.channels} must be 1 (grey) or 3 (RGB)")
        require(self.classes >= 0, f"data.classes={self.classes} must not be negative")
        require(self.window > 0, f"data.window={self.window} must be positive")
        _check_names(self)

    def derived(self) -> dict[str, int]:
        """Return the options that networks take from the data unless their recipe names them.

        These are `resolution`, `channels` and `classes` of the usual sample. Otherwise each field says its own, see
        `derived_from`.
        """
        usual = {"resolution": self.resolution, "channels": self.channels, "classes": self.classes}
        return (derived_from(self.fields) if self.fields else usual) | _of_computed(self.derive)

    def _take_from_fields(self) -> None:
        """Set what the fields decide; refuse another value, which would count for nothing.

        Raises:
            RecipeError: resolution, channels or classes are given beside the fields; names it.
        """
        defaults = {"resolution": 0, "channels": 3, "classes": 0}
        for name, decided in usual_options(self.fields).items():
            given = getattr(self, name)
            require(
                given in (defaults[name], decided),
                f"data.{name}={given} contradicts data.fields, which say {decided}; leave it out",
            )
            object.__setattr__(self, name, decided)


class FieldsSource(ABC):
    """A source whose fields are always written out, so that they decide on everything else."""

    @property
    @abstractmethod
    def fields(self) -> tuple[Any, ...]:
        """The fields of a sample."""

    @property
    @abstractmethod
    def derive(self) -> tuple[Any, ...]:
        """The fields that are computed on the device."""

    @property
    def resolution(self) -> int:
        """The longer side of the first picture in pixels; 0 without one."""
        return usual_options(self.fields)["resolution"]

    @property
    def channels(self) -> int:
        """The channels of the first picture; 0 without one."""
        return usual_options(self.fields)["channels"]

    @property
    def classes(self) -> int:
        """The number of classes of the label; 0 without one."""
        return usual_options(self.fields)["classes"]

    def derived(self) -> dict[str, int]:
        """Return the options that networks take from the fields; see `derived_from`."""
        return derived_from(self.fields) | _of_computed(self.derive)


@dataclass(frozen=True, eq=False)
class Sources(FieldsSource, Mapping[str, Source]):
    """Several sources on one clock: each has its own order and epoch, and a sample has the fields of all of them.

    A recipe makes it from a mapping: `data={"horses": Shards(...), "zebras": Shards(...)}`. At every position each
    source gives its own sample. The orders differ and are shuffled anew in each epoch, so a sample meets others then.

    Raises:
        RecipeError: there is no source, or two have a field of one name.
    """

    sources: Mapping[str, Source]

    def __post_init__(self) -> None:
        object.__setattr__(self, "sources", dict(self.sources))
        require(len(self.sources) > 0, "data: names no source")
        for name, source in self.sources.items():
            require(isinstance(name, str) and name.isidentifier(), f"data: {name!r} is no name of a source")
            require(bool(source.fields), f"data.{name}: of several sources each names its fields, fields=(...)")
        _check_names(self)

    def __getitem__(self, name: str) -> Source:
        return self.sources[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self.sources)

    def __len__(self) -> int:
        return len(self.sources)

    @property
    def fields(self) -> tuple[Any, ...]:
        """The fields of all sources."""
        return tuple(one for source in self.sources.values() for one in source.fields)

    @property
    def derive(self) -> tuple[Any, ...]:
        """The fields that are computed on the device, of all sources."""
        return tuple(one for source in self.sources.values() for one in source.derive)


def derived_from(fields: tuple[Any, ...]) -> dict[str, int]:
    """Return the options that networks take from the fields of a sample.

    An option that one field gives keeps its name: `channels` of the only image, `classes` of the only label. One that
    several fields give has the field's name in front: `source_channels`, `target_channels`. What is the same for all
    of these, as `resolution` commonly is, has its own name as well, except for `channels` and `classes`, which networks
    take for those of their output. A set with an image and no label has `classes` = 0, as the usual sample has.
    """
    given: list[tuple[str, dict[str, int]]] = [(one.name, one.derived()) for one in fields]
    counts = Counter(option for _, options in given for option in options)
    found: dict[str, int] = {}
    for name, options in given:
        for option, value in options.items():
            found[option if counts[option] == 1 else f"{name}_{option}"] = value
    for option, count in counts.items():
        values = {options[option] for _, options in given if option in options}
        if count > 1 and len(values) == 1 and option not in ("channels", "classes"):
            found[option] = values.pop()
    if counts["channels"] == 1 and not counts["classes"]:
        found["classes"] = 0
    return found


def _of_computed(derive: tuple[DerivedField, ...]) -> dict[str, int]:
    """Return the options of derived fields, which always have the field's name in front."""
    return {f"{one.name}_{option}": value for one in derive for option, value in one.derived().items()}


def usual_options(fields: tuple[Any, ...]) -> dict[str, int]:
    """Return `resolution` and `channels` of the first picture among the fields, and `classes` of the first label.

    Of a picture that is no square, the resolution is its longer side. What there is none of is 0.
    """
    given = [one.derived() for one in fields]
    nothing: dict[str, int] = {}
    picture = next((options for options in given if "channels" in options), nothing)
    label = next((options for options in given if options.keys() == {"classes"}), nothing)
    side = picture.get("resolution", max(picture.get("height_pixels", 0), picture.get("width_pixels", 0)))
    return {"resolution": side, "channels": picture.get("channels", 0), "classes": label.get("classes", 0)}


def _check_names(source: Source) -> None:
    """Refuse fields of one name, and derived ones of nothing.

    Raises:
        RecipeError: names the field.
    """
    names = [one.name for one in source.fields] or ["image", *(["label"] if source.classes else [])]
    for one in source.derive:
        require(
            one.of in names, f"data.derive: field {one.name!r} is derived from {one.of!r}, which is no field before it"
        )
        names.append(one.name)
    twice = [name for name, count in Counter(names).items() if count > 1]
    require(not twice, f"data: two fields have the name {twice[0] if twice else ''!r}; each needs its own")
