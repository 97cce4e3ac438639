"""Tests that what the documentation or a comment names exists, and that the design names every setting."""

import json
import re
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path

import pytest

from edge.interfaces.web.predict import Answer
from edge.settings.schema import Section, Settings

CHECKOUT = Path(__file__).parents[1]
PAGES = [*CHECKOUT.glob("*.md"), *(CHECKOUT / "docs").glob("*.md"), CHECKOUT / "weights" / "README.md"]
# What looks like a path of a checkout and is none: weights that were downloaded, and topics below the base `edge`.
NOT_HERE = re.compile(r"weights/.*\.pth|edge/porch.*")
PATH = re.compile(r"(?<![\w./$<>{}-])((?:benchmarks|deploy|docs|edge|scripts|systemd|tests|weights)/[\w./*-]*[\w*])")


def texts() -> Iterator[tuple[Path, str]]:
    """Every page, and every source whose comments name files."""
    sources = [CHECKOUT / "install.sh", CHECKOUT / "setup.cfg"]
    for folder in ("benchmarks", "deploy", "edge", "scripts", "systemd"):
        sources += [file for file in (CHECKOUT / folder).rglob("*") if "__pycache__" not in file.parts]
    for file in [*PAGES, *sources]:
        if file.is_file() and file.suffix not in (".jpg", ".png", ".npz", ".so"):
            yield file, file.read_text(encoding="utf-8")


def anchors(page: Path) -> set[str]:
    """The anchors of a page's headings, as GitHub makes them."""
    headings = re.findall(r"^#+ (.*)$", page.read_text(encoding="utf-8"), re.MULTILINE)
    return {re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-") for heading in headings}


def test_every_setting_is_in_the_design() -> None:
    settings = (CHECKOUT / "docs" / "design.md").read_text(encoding="utf-8")
    for name, field in Settings.model_fields.items():
        section = field.annotation
        assert isinstance(section, type)
        assert issubclass(section, Section)
        _, _, rest = settings.partition(f"\n[{name}]")
        documented = re.findall(r"(?:^|;) *(\w+) = ", re.split(r"\n(?:\[|```)", rest)[0], re.MULTILINE)
        assert set(documented) == set(section.model_fields), f"[{name}]"


def test_every_path_in_the_docs_and_the_comments_exists() -> None:
    missing = {
        f"{file.relative_to(CHECKOUT)}: {path}"
        for file, text in texts()
        for path in PATH.findall(text)
        if not any(CHECKOUT.glob(path)) and not NOT_HERE.fullmatch(path)
    }
    assert missing == set()


def test_every_link_between_pages_leads_somewhere() -> None:
    dead = []
    for page in PAGES:
        for link in re.findall(r"\]\(([^)\s]+)\)", page.read_text(encoding="utf-8")):
            if "://" in link:
                continue
            name, _, anchor = link.partition("#")
            target = page.parent / name if name else page
            if not target.exists() or (anchor and anchor not in anchors(target)):
                dead.append(f"{page.relative_to(CHECKOUT)}: {link}")
    assert dead == []


def test_every_module_that_a_page_runs_exists() -> None:
    wanted = {name for page in PAGES for name in re.findall(r"-m ((?:edge|benchmarks|tests)[\w.]*)", page.read_text())}
    assert wanted
    assert [name for name in wanted if find_spec(name) is None] == []


def test_the_table_of_the_design_names_files_of_the_package() -> None:
    """In the table of questions the paths are relative to edge/."""
    design = (CHECKOUT / "docs" / "design.md").read_text(encoding="utf-8")
    table = design.split("| to find out |")[1].split("\n\n")[0]
    rows = re.findall(r"^\| .* \|$", table, re.MULTILINE)
    named = re.findall(r"`([\w/]+(?:/|\.py))`", "".join(rows))
    assert len(named) >= len(rows) > 10
    assert [name for name in named if not (CHECKOUT / "edge" / name).exists()] == []


def test_every_selection_of_tests_in_the_pages_selects_one() -> None:
    """`FILE -k WORDS`, where `…` means the file of the row before. A word is in a test's name or is a parameter."""
    for page in PAGES:
        file = ""
        text = page.read_text(encoding="utf-8")
        for name, words in re.findall(r"(tests/[\w/]+\.py|…)(?: -k (\w+|\"[^\"]+\"))?", text):
            file = file if name == "…" else name
            for word in words.strip('"').split(" or ") if words else []:
                tests = re.findall(r'def test_\w+|"\w+"', (CHECKOUT / file).read_text(encoding="utf-8"))
                assert any(word in test for test in tests), f"{page.name}: {file} -k {word}"


@pytest.mark.parametrize("page", ["README.md", "docs/web.md"])
def test_an_answer_to_a_photo_is_shown_with_its_keys_in_order(page: str) -> None:
    text = (CHECKOUT / page).read_text(encoding="utf-8")
    shown = re.findall(r"```json\n(\{\"top\".*?)```", text, re.DOTALL)
    assert [list(json.loads(answer)) for answer in shown] == [list(Answer.model_fields)]
