"""Tests that an import goes to a lower floor only, and that rooms on one floor do not import each other."""

import ast
import re
from collections.abc import Iterator
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

EDGE = Path(__file__).parent.parent / "edge"
DESIGN = EDGE.parent / "docs" / "design.md"


def floors() -> list[list[str]]:
    """The rooms of each floor, lowest first, as drawn in docs/design.md."""
    section = DESIGN.read_text(encoding="utf-8").split("## Rooms and floors")[1]
    left = "\n".join(line[:43] for line in section.split("```")[1].splitlines())  # the right half has explanations
    return [re.findall(r"(\w+)(?:/|\.py)(?=\s)", floor) for floor in reversed(left.split("│"))]


FLOORS = floors()
# Modules of the lowest floor that may import each other, but not in a circle.
SAME_ROOM = {frozenset({"events", "errors"}), frozenset({"frames", "errors"})}


def imports() -> Iterator[tuple[str, str, Path, int]]:
    """(importing room, imported room, file, line) of every import inside edge/, including those inside functions."""
    for file in sorted(EDGE.rglob("*.py")):
        room = file.relative_to(EDGE).parts[0].removesuffix(".py")
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            names: list[str] = []
            if isinstance(node, ast.Import):
                names = [alias.name for alias in node.names]
            elif isinstance(node, ast.ImportFrom):
                assert node.level == 0, f"{file}:{node.lineno}: imports are absolute here"
                names = [f"{node.module}.{alias.name}" for alias in node.names]
            for name in names:
                parts = name.split(".")
                if parts[0] == "edge" and len(parts) > 1 and parts[1] != "__version__":
                    yield room, parts[1], file, node.lineno


def floor_of(room: str) -> int:
    for number, rooms in enumerate(FLOORS):
        if room in rooms:
            return number
    pytest.fail(f"{room} has no floor in the picture of docs/design.md")


def test_imports_only_go_down() -> None:
    wrong = [
        f"{file.relative_to(EDGE.parent)}:{line}: {room} imports {other}"
        for room, other, file, line in imports()
        if room not in (other, "__init__")
        and frozenset({room, other}) not in SAME_ROOM
        and floor_of(other) >= floor_of(room)
    ]
    assert not wrong, "\n".join(wrong)


def imported_at_once(nodes: list[ast.stmt]) -> Iterator[str]:
    """What a module imports when it is imported itself, without imports in functions and for type checking."""
    for node in nodes:
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield from (f"{node.module}.{alias.name}" for alias in node.names)
        elif isinstance(node, ast.If | ast.Try | ast.With | ast.ClassDef):
            for_types = isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING"
            yield from imported_at_once([] if for_types else [*node.body, *getattr(node, "orelse", ())])


def test_any_module_may_be_imported_first() -> None:
    """With a circle it would depend on the module that is imported first whether the import works."""
    files = {
        ".".join(file.relative_to(EDGE.parent).with_suffix("").parts).removesuffix(".__init__"): file
        for file in EDGE.rglob("*.py")
    }
    needs: dict[str, set[str]] = {}
    for module, file in files.items():
        needs[module] = set()
        for name in imported_at_once(ast.parse(file.read_text(encoding="utf-8")).body):
            parts = name.split(".")
            packages = {".".join(parts[:count]) for count in range(1, len(parts) + 1)} & files.keys()
            needs[module] |= {other for other in packages if not f"{module}.".startswith(f"{other}.")}
    TopologicalSorter(needs).prepare()


def test_every_room_is_drawn_and_nothing_else() -> None:
    for entry in EDGE.iterdir():
        if entry.suffix == ".py" and entry.stem != "__init__":
            floor_of(entry.stem)
        elif entry.is_dir() and entry.name != "__pycache__":
            floor_of(entry.name)
    drawn = [room for floor in FLOORS for room in floor]
    assert [room for room in drawn if not ((EDGE / room).is_dir() or (EDGE / f"{room}.py").is_file())] == []


def test_every_folder_of_tests_is_run_by_a_suite() -> None:
    run = (EDGE.parent / "setup.cfg").read_text() + "".join(
        script.read_text() for script in (EDGE.parent / "scripts").glob("test*")
    )
    folders = {test.parent.relative_to(EDGE.parent) for test in Path(__file__).parent.rglob("test_*.py")}
    for folder in folders:  # pytest also runs the folders below a given one
        covering = [place for place in (folder, *folder.parents) if len(place.parts) > 1] or [folder]
        assert any(str(place) in run for place in covering), folder
