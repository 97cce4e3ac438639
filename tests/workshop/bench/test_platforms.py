"""Tests the platform table: what was measured here, and beside it only figures whose source is printed."""

import re

from edge.workshop.bench.platforms import PUBLISHED, SOURCES, platforms
from tests.workshop.bench.results import UPLOAD, result


def test_this_machines_row_has_what_was_measured_and_fits_80_columns() -> None:
    lines = list(platforms(result()))
    assert max(map(len, lines)) <= 80
    (row,) = [line for line in lines if line.startswith("this machine")]
    assert row.split()[2:] == ["2.00", "341", "9.10", "16.9", "97.2", "99", "%"]
    text = "\n".join(lines)
    assert "245.0 ms with 4 at once; 198 of 200 answered" in text
    assert "not answered: 2 × HTTP 429" in text


def test_every_published_row_names_its_source() -> None:
    lines = list(platforms(result()))
    for other in PUBLISHED:
        (row,) = [line for line in lines if line.startswith(other.name)]
        (number,) = re.findall(r"\[(\d)\]", row)
        assert f"[{number}] {SOURCES[other.source - 1]}" in lines


def test_another_network_has_no_published_rows() -> None:
    text = "\n".join(platforms(result(model="efficientnet_lite0-int8-3fa9c1")))
    assert "this machine" in text
    assert "[1]" not in text


def test_without_the_page_the_reason_is_in_the_table() -> None:
    text = "\n".join(platforms(result(upload=None, no_upload="fastapi cannot be imported")))
    assert "uploads: not measured, because fastapi cannot be imported" in text
    (row,) = [line for line in text.splitlines() if line.startswith("this machine")]
    assert row.split()[-2:] == ["–", "–"]


def test_uploads_without_an_answer_are_counted() -> None:
    dead = UPLOAD.model_copy(update={"answered": 0, "alone": None, "together": None, "failures": {"timeout": 200}})
    text = "\n".join(platforms(result(upload=dead)))
    assert "0 of 200 answered" in text
    assert "not answered: 200 × timeout" in text
    assert " 0 %" in text
