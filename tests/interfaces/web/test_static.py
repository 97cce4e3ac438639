"""Tests that the page is small, is in both languages, and contains nothing that its content security policy forbids."""

import re
from pathlib import Path

STATIC = Path(__file__).parents[3] / "edge" / "interfaces" / "web" / "static"
MAX_BYTES = 150_000


def read(name: str) -> str:
    return (STATIC / name).read_text(encoding="utf-8")


def test_the_page_is_small_in_all() -> None:
    assert sum(file.stat().st_size for file in STATIC.iterdir()) < MAX_BYTES


def test_every_word_exists_in_both_languages_and_none_is_missing() -> None:
    english, chinese = re.split(r"\n  zh: \{", read("words.js").split("  en: {")[1])[:2]
    keys = [set(re.findall(r"(\w+): \"", part.split("\n  },")[0])) for part in (english, chinese)]
    assert keys[0] == keys[1]
    used = set(re.findall(r'data-t="(\w+)"', read("page.html")))
    for script in sorted(file.name for file in STATIC.glob("*.js")):
        used |= set(re.findall(r"\bt\(\"(\w+)\"", read(script)))
    assert used <= keys[0]


def test_nothing_is_inline_and_nothing_comes_from_elsewhere() -> None:
    for name in ("page.html", "login.html"):
        page = read(name)
        assert not re.search(r"<script(?![^>]*\bsrc=)|<style|\sstyle=|\son\w+=", page)
    for file in STATIC.iterdir():
        foreign = re.findall(r"https?://[^\s\"')]+", file.read_text(encoding="utf-8"))
        assert set(foreign) <= {"http://www.w3.org/2000/svg"}, file
