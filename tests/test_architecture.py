"""The house: which room may know which, and how large a file and a function may be."""

import ast
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from conftest import ROOT

PACKAGE = ROOT / "src" / "flowlab"
FILES = sorted(PACKAGE.rglob("*.py"))
GROUND = {"errors", "rng", "files", "processes", "signals"}

# arrows run down: a room may import those named here, and a file its neighbours in the room
ARROWS: dict[str, set[str]] = {
    "__init__": {"export", "flows", "job"},
    "__main__": {"commands", *GROUND},
    "report": {"__main__"},
    "job": {"commands", "experiment", "runs", *GROUND},
    "commands": {
        *("experiment", "painter", "plots", "runs", "export", "writing", "config", "parts"),
        *("data", "flows", "schema", *GROUND),
    },
    "experiment": {
        *("trainer", "callbacks", "logger", "runs", "export", "config", "parts", "training"),
        *("data", "flows", *GROUND),
    },
    "trainer": {"callbacks", "logger", "runs", "training", *GROUND},
    "callbacks": {"logger", "plots", "runs", "training", "data", "targets", "flows", *GROUND},
    "logger": {"painter", "runs"},
    "painter": GROUND,
    "plots": {"runs", "export", "targets"},
    "runs": {"export", "config", *GROUND},
    "export": {"flows", "schema", *GROUND},
    "writing": {"schema", *GROUND},
    "parts": {"config", "sizes", "training", "targets", "flows", *GROUND},
    "sizes": {"training", "flows", "errors"},
    "config": {"rules", *GROUND},
    "rules": set(),
    "training": {"data", "targets", "flows", "schema", *GROUND},
    "data": {"targets", "schema", *GROUND},
    "schema": set(),
    "targets": set(),
    "flows": set(),
    "processes": {"errors", "signals"},
    "files": {"errors"},
    "signals": set(),
    "errors": set(),
    "rng": set(),
}
TORCH_ALONE = {"flows", "targets"}


def room(file: Path) -> str:
    return file.relative_to(PACKAGE).parts[0].removesuffix(".py")


def imports(file: Path) -> Iterator[str]:
    """The modules that a file imports, wherever in it the import stands."""
    for node in ast.walk(ast.parse(file.read_text())):
        if isinstance(node, ast.Import):
            yield from (name.name for name in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{file}: relative import"
            for name in node.names:
                whole = f"{node.module}.{name.name}"
                here = PACKAGE.parent / whole.replace(".", "/")
                is_module = here.is_dir() or here.with_suffix(".py").exists()
                yield whole if is_module else str(node.module)


def graph() -> dict[str, set[str]]:
    """Which of flowlab's modules imports which."""
    arrows: dict[str, set[str]] = {}
    for file in FILES:
        parts = file.relative_to(PACKAGE.parent).with_suffix("").parts
        name = ".".join(parts).removesuffix(".__init__")
        arrows[name] = {module for module in imports(file) if module.startswith("flowlab")}
    return arrows


@pytest.mark.parametrize("file", FILES, ids=lambda file: str(file.relative_to(PACKAGE)))
def test_imports_follow_the_arrows(file: Path) -> None:
    here = room(file)
    for module in imports(file):
        top, _, rest = module.partition(".")
        if top == "flowlab":
            there = rest.partition(".")[0] or "__init__"
            assert there in ARROWS[here] | {here}, f"{here} imports {there}"
        elif here in TORCH_ALONE:
            assert top == "torch" or top in sys.stdlib_module_names, f"{here} imports {module}"


def test_there_is_no_circle() -> None:
    arrows = graph()
    while ends := [module for module, to in arrows.items() if not to & (arrows.keys() - {module})]:
        for module in ends:
            del arrows[module]
    assert not arrows


def test_a_flow_loads_on_any_system() -> None:
    """As on Windows: nothing that `load` imports, at any distance, is Unix's alone."""
    arrows, found, new = graph(), set[str](), {"flowlab", "flowlab.export"}
    while new:
        found |= new
        new = {to for name in new & arrows.keys() for to in arrows[name]} - found
        new -= {"flowlab.job"}  # lazily, to train
    files = (PACKAGE.parent / name.replace(".", "/") for name in found)
    for file in (f / "__init__.py" if f.is_dir() else f.with_suffix(".py") for f in files):
        assert not {*imports(file)} & {"fcntl", "resource", "termios"}, file


def test_every_room_has_its_line() -> None:
    assert {room(file) for file in FILES} == ARROWS.keys()


@pytest.mark.parametrize("file", FILES, ids=lambda file: str(file.relative_to(PACKAGE)))
def test_files_and_functions_fit_the_eye(file: Path) -> None:
    text = file.read_text()
    assert len(text.splitlines()) <= 250
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            body = node.body[1:] if ast.get_docstring(node) else node.body
            if body:
                lines = (node.end_lineno or 0) - body[0].lineno + 1
                assert lines <= 40, f"{node.name} has {lines} lines"
