"""Read a Dockerfile, and carry out its steps without Docker: every stage in a copy-on-write view of this system.

The view stands for the base image (so this machine must be a Debian, too, with a Python); writes go to a folder of
their own.
"""

from __future__ import annotations

import json
import os
import re
import shlex
import shutil
import string
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path


@dataclass(frozen=True)
class Step:
    """One instruction: `RUN`, and what follows it in one line."""

    word: str
    text: str


@dataclass
class Stage:
    """`FROM` to the next `FROM`."""

    name: str
    base: str
    steps: list[Step] = field(default_factory=list)

    def last(self, word: str) -> str:
        """What follows the last instruction of this kind."""
        return [step.text for step in self.steps if step.word == word][-1]


def read(path: Path) -> list[Stage]:
    """The stages; continued lines joined, comments and what precedes the first `FROM` left out."""
    lines = [line for line in path.read_text().splitlines() if not line.lstrip().startswith("#")]
    stages: list[Stage] = []
    for line in re.sub(r"\\\n", "\n", "\n".join(lines).replace("\\\n", "\0")).split("\n"):
        word, _, text = line.replace("\0", "\\\n").strip().partition(" ")
        if word == "FROM":
            base, _, name = text.partition(" AS ")
            stages.append(Stage(name=name.strip(), base=base.strip()))
        elif word and stages:
            stages[-1].steps.append(Step(word, text.strip()))
    return stages


def copy_of(step: Step) -> tuple[str | None, list[str], str]:
    """A COPY's (stage copied from, sources, target)."""
    words = shlex.split(step.text)
    origin = next((w.removeprefix("--from=") for w in words if w.startswith("--from=")), None)
    *sources, target = [w for w in words if not w.startswith("--")]
    return origin, sources, target


class Image:
    """One stage as it is carried out.

    Args:
        folder: where its writes and its root are.
        context: what COPY reads.
        arguments: of the build.
        passed: variables of this machine that every command gets (addresses of package indexes).
    """

    def __init__(self, folder: Path, *, context: Path, arguments: dict[str, str], passed: dict[str, str]) -> None:
        self.root, self._context, self._arguments = folder / "root", context, arguments
        self._passed = passed
        # The base image's `python`: what made this environment, found by its own path (a link would confuse it).
        self._python = Path(sys.base_prefix).resolve() / "bin"
        self.environment = {"PATH": f"{self._python}:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"}
        self._folder, self._workdir, self._shell, self.user = folder, "/", ["/bin/sh", "-c"], ""

    @contextmanager
    def mounted(self) -> Iterator[None]:
        """The view of this system, in which any user may run its Python."""
        for name in ("root", "upper", "work"):
            (self._folder / name).mkdir(parents=True)
        layers = f"lowerdir=/,upperdir={self._folder / 'upper'},workdir={self._folder / 'work'}"
        _run("mount", "-t", "overlay", "overlay", "-o", layers, str(self.root))
        try:
            for place in ("proc", "dev", "sys"):
                _run("mount", "--rbind", f"/{place}", str(self.root / place))
                _run("mount", "--make-rslave", str(self.root / place))
            self._without_people()
            for folder in (self._python, *self._python.parents):
                inside = self.root / folder.relative_to("/")
                inside.chmod(inside.stat().st_mode | 0o055)
            yield
        finally:
            _run("umount", "--recursive", "--lazy", str(self.root))

    def _without_people(self) -> None:
        """A base image has no users besides the system's."""
        for name in ("passwd", "group"):
            file = self.root / "etc" / name
            lines = file.read_text().splitlines(keepends=True)
            file.write_text("".join(line for line in lines if not 1000 <= int(line.split(":")[2]) < 60000))

    def carry_out(self, stage: Stage, *, earlier: dict[str, Image], log: Path) -> None:
        """Every step in its order.

        Raises:
            AssertionError: a step failed.
        """
        for step in stage.steps:
            if step.word == "RUN":
                done = self.run([*self._shell, step.text], as_user="")
                with log.open("a") as file:
                    file.write(f"RUN {step.text}\n{done.stdout}\n")
                assert done.returncode == 0, f"RUN {step.text}\n{done.stdout[-4000:]}"
            elif step.word == "COPY":
                origin, sources, target = copy_of(step)
                self._copy(sources, target, origin=earlier[origin] if origin else None)
            elif step.word == "ENV":
                for word in shlex.split(step.text.replace("\\\n", " ")):
                    name, _, value = word.partition("=")
                    self.environment[name] = string.Template(value).safe_substitute(self.environment)
            elif step.word == "ARG":
                name, _, default = step.text.partition("=")
                self.environment.setdefault(name, self._arguments.get(name, default))
            elif step.word == "WORKDIR":
                self._workdir = step.text
                self._inside(step.text).mkdir(parents=True, exist_ok=True)
            elif step.word == "SHELL":
                self._shell = json.loads(step.text)
            elif step.word == "USER":
                self.user = step.text

    def _inside(self, path: str) -> Path:
        return self.root / os.path.join(self._workdir, path).lstrip("/")

    def _copy(self, sources: Sequence[str], target: str, *, origin: Image | None) -> None:
        goal = self._inside(target)
        for source in sources:
            found = origin.root / source.lstrip("/") if origin else self._context / source
            if found.is_dir():
                shutil.copytree(found, goal, symlinks=True, dirs_exist_ok=True)
            else:
                goal.mkdir(parents=True, exist_ok=True)
                shutil.copy2(found, goal)

    def command(self, command: Sequence[str], *, as_user: str | None = None) -> list[str]:
        """The command line that runs `command` inside, as the image's user or another; the process stays the same."""
        user = self.user if as_user is None else as_user
        change = []
        if user:
            uid, _, gid = user.partition(":")
            change = ["setpriv", "--reuid", uid, "--regid", gid or uid, "--clear-groups", "--no-new-privs"]
        script = f"cd {shlex.quote(self._workdir)} && exec {shlex.join([*change, *command])}"
        return ["chroot", str(self.root), "/bin/sh", "-c", script]

    def variables(self) -> dict[str, str]:
        """The environment of every command inside."""
        return self._passed | self.environment

    def run(self, command: Sequence[str], *, as_user: str | None = None) -> subprocess.CompletedProcess[str]:
        """Run `command` inside to its end."""
        return subprocess.run(
            self.command(command, as_user=as_user),
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            stdin=subprocess.DEVNULL,
            text=True,
            env=self.variables(),
        )


def _run(*command: str) -> None:
    subprocess.run(command, check=True, capture_output=True)
