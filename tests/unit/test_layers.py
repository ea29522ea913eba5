"""The rooms of the package and who may import whom: downwards only."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[2] / "framework"

# A room may import the rooms below it, and nothing above.
ORDER = [
    "commands",
    "doctor",
    "review",
    "train",
    "evaluation",
    "games",
    "sampling",
    "sentinels",
    "tracking",
    "interop",
    "checkpoint",
    "engines",
    "rendezvous",
    "objectives",
    "augment",
    "data",
    "networks",
    "recipe",
    "runtime",
    "media",
    "utils",
]
# Every room may use what a recipe is made of; the recipe itself is for those that play it.
PARTS_OF_RECIPES = {"checks", "optimizers", "schedules", "sources"}
USES_RECIPE = {"commands", "train", "sampling", "games", "interop", "engines", "recipe"}

ONLY_IN = {
    "webdataset": {"data"},
    "mlflow": {"tracking"},
    "matplotlib": {"media"},
    "scipy": {"evaluation"},
    "deepspeed": {"engines"},
    "accelerate": {"engines", "runtime"},
    "tyro": {"commands", "train", "data", "utils", "__main__"},
}


def modules() -> list[Path]:
    return sorted(PACKAGE.rglob("*.py"))


def room_of(path: Path) -> str:
    parts = path.relative_to(PACKAGE).with_suffix("").parts
    return parts[0]


def imports(path: Path) -> Iterator[str]:
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            assert node.level == 0, f"{path}: relative import"
            yield node.module


@pytest.mark.parametrize("path", modules(), ids=lambda p: str(p.relative_to(PACKAGE)))
def test_imports_go_downwards(path: Path) -> None:
    room = room_of(path)
    for name in imports(path):
        head, *rest = name.split(".")
        if head in ONLY_IN:
            assert room in ONLY_IN[head], f"{path}: only {sorted(ONLY_IN[head])} may import {head}"
        # A package that is a program calls its command.
        if head != "framework" or not rest or room == "__init__" or path.name == "__main__.py":
            continue
        target = rest[0]
        if target == room:
            continue
        assert room in ORDER, f"{path}: this room has no place in the order"
        assert target in ORDER, f"{path}: {room} imports {name}"
        if target == "recipe" and room not in USES_RECIPE:
            assert rest[1] in PARTS_OF_RECIPES, f"{path}: {room} may not import {name}"
        assert ORDER.index(target) > ORDER.index(room), f"{path}: {room} may not import {name}"


def test_nothing_pickles() -> None:
    forbidden = {"pickle", "dill", "cloudpickle", "shelve", "marshal", "joblib"}
    for path in modules():
        if path == READS_FOREIGN_PICKLES:
            continue
        found = {name.split(".")[0] for name in imports(path)} & forbidden
        assert not found, f"{path} imports {found}"
        text = path.read_text()
        for call in ("torch.load(", "torch.save(", "broadcast_object_list(", "all_gather_object(", "gather_object("):
            assert call not in text, f"{path} calls {call}"


# Public weights come as pickles. One file may read them: with torch's weights-only reader, and with an unpickler that
# builds records of known names and nothing else (tests/unit/interop/test_unpickle.py).
READS_FOREIGN_PICKLES = PACKAGE / "interop" / "unpickle.py"


def test_foreign_pickles_are_read_by_restricted_readers_only() -> None:
    tree = ast.parse(READS_FOREIGN_PICKLES.read_text())
    calls = [node for node in ast.walk(tree) if isinstance(node, ast.Call)]
    used = {ast.unparse(node) for node in ast.walk(tree) if isinstance(node, ast.Attribute)}
    assert {name for name in used if name.startswith("pickle.")} == {"pickle.Unpickler"}
    assert {name for name in used if name in ("torch.load", "torch.save")} == {"torch.load"}
    for call in calls:
        if ast.unparse(call.func) == "torch.load":
            assert {"weights_only": "True"}.items() <= {k.arg: ast.unparse(k.value) for k in call.keywords}.items()
    (unpickler,) = [
        n
        for n in ast.walk(tree)
        if isinstance(n, ast.ClassDef) and any(ast.unparse(b) == "pickle.Unpickler" for b in n.bases)
    ]
    (find_class,) = [n for n in unpickler.body if isinstance(n, ast.FunctionDef) and n.name == "find_class"]
    # It may not reach for what it was asked: no import, no getattr, no fallback to pickle's own.
    names = {ast.unparse(n.func) for n in ast.walk(find_class) if isinstance(n, ast.Call)}
    assert not names & {"getattr", "__import__", "importlib.import_module", "super", "super().find_class", "eval"}


def test_files_can_be_read_in_one_sitting() -> None:
    longest = {str(p.relative_to(PACKAGE)): len(p.read_text().splitlines()) for p in modules()}
    assert {name: lines for name, lines in longest.items() if lines > 500} == {}


def test_functions_fit_on_a_screen() -> None:
    too_long = {
        f"{path.relative_to(PACKAGE)}:{node.lineno} {node.name}": lines
        for path in modules()
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
        and (lines := (node.end_lineno or 0) - node.lineno + 1) > 60
    }
    assert too_long == {}
