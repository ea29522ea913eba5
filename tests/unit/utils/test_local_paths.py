"""A URL where a local path is meant is refused by name, by every command and in training; nothing is made of it."""

from __future__ import annotations

import dataclasses
import importlib
import inspect
import typing
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import tyro

from framework.__main__ import COMMANDS
from framework.sampling.load import load_generator
from framework.train.config import RunConfig
from framework.utils.errors import FrameworkError
from framework.utils.flags import local_path

NEEDED = {"pack": ["photos", "shards"], "sync": ["runs/a"], "import": ["f.pkl", "--from", "r3gan", "--out", "x"]}
NEEDED |= {"export": ["runs/a", "--to", "huggingface", "--out", "x"], "sample": ["runs/a"]}
NEEDED |= {"data verify": ["shards"], "data inspect": ["shards"]}


def mentions_path(hint: object) -> bool:
    return hint is Path or any(mentions_path(part) for part in typing.get_args(hint))


def path_arguments() -> Iterator[tuple[str, str]]:
    """Command and parameter of everything typed as a path."""
    functions: dict[str, Callable] = {"train": RunConfig}
    for name, command in COMMANDS.items():
        module = importlib.import_module(f"framework.commands.{command.module}")
        functions[name] = getattr(module, command.function)
    for name, function in functions.items():
        yield from ((name, parameter) for parameter in path_parameters(function))


def path_parameters(function: Callable) -> Iterator[str]:
    """Yield the parameters typed as paths, those of a dataclass of options included."""
    hints = typing.get_type_hints(function, include_extras=True)
    for parameter in inspect.signature(function).parameters:
        plain = next(iter(typing.get_args(hints[parameter])), None)
        if dataclasses.is_dataclass(plain):
            yield from path_parameters(plain)
        elif mentions_path(hints[parameter]):
            yield parameter


def refused(command: str, arguments: list[str]) -> None:
    function: Callable = RunConfig
    if command != "train":
        told = COMMANDS[command]
        function = getattr(importlib.import_module(f"framework.commands.{told.module}"), told.function)
    with pytest.raises(SystemExit) as stopped:
        tyro.cli(function, args=arguments)
    assert stopped.value.code == 2


POSITIONAL = {("pack", "out"): 1, ("sync", "run"): 0, ("import", "file"): 0, ("export", "checkpoint"): 0}
POSITIONAL |= {("review", "targets"): 0}


@pytest.mark.parametrize(("command", "parameter"), list(path_arguments()))
def test_every_local_path(
    command: str, parameter: str, capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    arguments = list(NEEDED.get(command, []))
    if (place := POSITIONAL.get((command, parameter))) is not None:
        arguments[place : place + 1] = ["s3://bucket/x"]
    else:
        arguments += [f"--{parameter.replace('_', '-')}", "s3://bucket/x"]
    refused(command, arguments)
    said = " ".join(capsys.readouterr().err.replace("│", " ").split())
    assert "s3://bucket/x: is a URL" in said
    assert list(tmp_path.iterdir()) == []


def test_there_are_many() -> None:
    found = set(path_arguments())
    print(f"{len(found)} arguments are local paths")
    assert {("sample", "out"), ("train", "out"), ("train", "cache_folder"), ("train", "init_from")} < found
    assert {("evaluate", "cache_folder"), ("review", "targets"), ("sync", "run"), ("import", "out")} < found


@pytest.mark.parametrize("text", ["s3://b/x", "gs://b", "https://h/x", "file:///x", "hdfs:/x", "pipe:cat", "runs:/1"])
def test_urls(text: str) -> None:
    with pytest.raises(FrameworkError, match="is a URL"):
        local_path(text)


@pytest.mark.parametrize("text", ["runs/a", "/abs", "./s3://x", "a:b", "C:/x", "~/x", "x y", "2026-11-28T03:00:00/a"])
def test_paths(text: str) -> None:
    assert local_path(text) == Path(text)


def test_a_checkpoint_may_be_in_mlflow_but_not_elsewhere() -> None:
    with pytest.raises(FrameworkError, match="is a URL"):
        load_generator("s3://bucket/runs/a")
