"""`framework import --from KIND FILE --out DIR`: public weights become a checkpoint of ours."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Annotated, Any

import tyro

from framework.interop.files import ForeignFile, read_file
from framework.interop.folder import write_folder
from framework.interop.load import KINDS, Loaded, Side, kind_of, translated_options, understand
from framework.utils.errors import FrameworkError
from framework.utils.flags import LocalPath, OptionalLocalPath
from framework.utils.quantities import format_count
from framework.utils.suggest import nearest


def import_(
    file: Annotated[LocalPath, tyro.conf.Positional],
    *,
    kind: Annotated[str, tyro.conf.arg(name="from")],
    out: LocalPath,
    average: OptionalLocalPath = None,
    discriminator: OptionalLocalPath = None,
    set: Annotated[tuple[str, ...], tyro.conf.UseAppendAction] = (),
) -> None:
    """Read weights of a public implementation, without running its code, into a folder that `framework sample` takes.

    Args:
        file: .pth, .pt, NVlabs .pkl, .npz or .safetensors with a generator, and perhaps its moving average and the
            discriminator.
        kind: The project: biggan-pytorch, dcgan-pytorch-examples, gan-zoo-progan, mimicry, nvlabs-stylegan2,
            nvlabs-stylegan3, r3gan, rosinality-stylegan2 or studiogan.
        out: New folder to write.
        average: File of the generator's moving average, where the project saves it apart.
        discriminator: File of the discriminator, where the project saves it apart.
        set: What names and shapes cannot tell: generator.OPTION=VALUE or discriminator.OPTION=VALUE; may be repeated.
    """
    if kind not in KINDS:
        raise FrameworkError(f"--from {kind}: unknown{nearest(kind, KINDS)}; known: {', '.join(sorted(KINDS))}")
    given = assignments(set)
    places = kind_of(kind).PLACES
    main = read_file(file)
    found = {"generator": (main, _place(main, places.generator + places.average))}
    for role, path in (("average", average), ("discriminator", discriminator)):
        candidates = getattr(places, role)
        if path is not None:
            apart = read_file(path)
            found[role] = (apart, _place(apart, candidates + places.generator))
        elif beside := [place for place in candidates if place in main.states and place != found["generator"][1]]:
            found[role] = (main, beside[0])
    loaded = {role: _network(kind, role, *where, given) for role, where in found.items()}
    source = {"kind": kind} | {role: f"{where.path.name}: {place}" for role, (where, place) in found.items()}
    folder = write_folder(out, **loaded, source=source)
    for role, network in loaded.items():
        print(summary(role, network))
    print(folder)


def assignments(texts: tuple[str, ...]) -> dict[str, dict[str, Any]]:
    """Parse texts such as `generator.channels=1`, and return the options by side.

    Raises:
        FrameworkError: a text is not of that form.
    """
    given: dict[str, dict[str, Any]] = {"generator": {}, "discriminator": {}}
    for text in texts:
        path, equals, value = text.partition("=")
        side, dot, option = path.strip().partition(".")
        if not (equals and dot and option and side in given):
            raise FrameworkError(f"--set {text}: write it as generator.OPTION=VALUE or discriminator.OPTION=VALUE")
        try:
            given[side][option] = json.loads(value)
        except json.JSONDecodeError:
            given[side][option] = value.strip()
    return given


def summary(role: str, loaded: Loaded) -> str:
    """Return a line that says what was read, and as which network it was understood."""
    parameters = sum(parameter.numel() for parameter in loaded.network.parameters())
    options = ", ".join(f"{name}={value}" for name, value in loaded.description.options.items())
    cls = loaded.description.cls
    name = f"{cls.__module__.removeprefix('framework.networks.')}.{cls.__name__}"
    return f"{role}: {name}, {format_count(parameters)} parameters from {loaded.num_tensors} tensors; {options}"


def _network(kind: str, role: str, file: ForeignFile, place: str, given: Mapping[str, Mapping[str, Any]]) -> Loaded:
    side: Side = "discriminator" if role == "discriminator" else "generator"
    told = translated_options(kind, side, file.options.get(place, {}), known_only=True)
    try:
        return understand(kind, side, file.states[place], **told | dict(given[side]))
    except FrameworkError as error:
        raise FrameworkError(f"{file.path}{f' ({place})' if place else ''}: {error}") from None


def _place(file: ForeignFile, places: tuple[str, ...]) -> str:
    for place in places:
        if place in file.states:
            return place
    there = ", ".join(name or "(the file itself)" for name in file.states)
    raise FrameworkError(f"{file.path}: no weights at {' or '.join(filter(None, places))}; the file has: {there}")
