"""Tests that a chart is a valid SVG or PNG, or that the error is one sentence."""

from pathlib import Path
from xml.etree import ElementTree

import cv2
import pytest

from edge.errors import StateError
from edge.workshop.charts import draw_benchmark
from tests.workshop.bench.results import result

SVG = "{http://www.w3.org/2000/svg}"


def test_an_svg_has_a_bar_for_every_figure_of_both_runs(tmp_path: Path) -> None:
    draw_benchmark([result(), result(model="resnet18 <old> & tired")], tmp_path / "chart.svg")
    root = ElementTree.parse(tmp_path / "chart.svg").getroot()
    bars = [element for element in root.iter(f"{SVG}rect") if element.get("x")]
    assert len(bars) == 2 * (5 + 3 + 4)
    assert len({bar.get("fill") for bar in bars}) == 2
    assert all(0 < float(bar.get("width", 0)) <= 500 for bar in bars)
    texts = [element.text for element in root.iter(f"{SVG}text")]
    assert "blue: now, orange: before" in texts
    assert texts.count("1 thread") == 2


def test_the_chart_of_one_run_has_no_legend(tmp_path: Path) -> None:
    draw_benchmark([result()], tmp_path / "chart.svg")
    assert "orange" not in (tmp_path / "chart.svg").read_text(encoding="utf-8")


def test_a_png_can_be_seen(tmp_path: Path) -> None:
    draw_benchmark([result()], tmp_path / "chart.PNG")
    picture = cv2.imread(str(tmp_path / "chart.PNG"))
    assert picture is not None
    assert picture.shape[1] == 760
    assert (picture == (0xB3, 0x6F, 0x2F)).all(axis=2).sum() > 1000  # blue bars


def test_a_chart_that_cannot_be_written_is_a_sentence(tmp_path: Path) -> None:
    with pytest.raises(StateError, match="No such file"):
        draw_benchmark([result()], tmp_path / "nowhere" / "chart.svg")
    with pytest.raises(StateError, match="ends neither"):
        draw_benchmark([result()], tmp_path / "chart.gif")
