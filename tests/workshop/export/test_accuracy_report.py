"""Tests a report's figures against ones worked out by hand, and that it fits a terminal and a picture."""

from pathlib import Path
from xml.etree import ElementTree

import cv2
import pytest

from edge.errors import StateError
from edge.workshop.charts import draw_reliability
from edge.workshop.evaluate.accuracy import Answer, Evaluation, wilson
from edge.workshop.evaluate.report import to_text

LABELS = ("tench", "goldfish", "great white shark", "an animal with a name that is much too long for any line")
SVG = "{http://www.w3.org/2000/svg}"


def evaluation(*answers: Answer) -> Evaluation:
    return Evaluation("resnet18-int8-<old>", LABELS, list(answers))


@pytest.fixture
def some() -> Evaluation:
    """Four of five right: two of them 95 % sure, one 65 %, one 61 %; the wrong one 67 %."""
    return evaluation(
        Answer(0, (0, 1), 95.0, fp32=0, difference=1.0),
        Answer(1, (1, 0), 95.0, fp32=1),
        Answer(2, (2, 0), 65.0, fp32=1, difference=4.0),
        Answer(2, (2, 1), 61.0, fp32=2),
        Answer(3, (0, 3), 67.0, fp32=3),
    )


@pytest.mark.parametrize(
    ("count", "total", "low", "high"),
    [(0, 10, 0, 27.75), (10, 10, 72.25, 100), (5, 10, 23.66, 76.34), (1, 1, 20.65, 100)]
)  # fmt: skip
def test_wilsons_interval_is_the_books(count: int, total: int, low: float, high: float) -> None:
    assert wilson(count, total) == (pytest.approx(low, abs=0.01), pytest.approx(high, abs=0.01))


def test_calibration_is_the_mean_distance_of_the_bins(some: Evaluation) -> None:
    sure = some.bins()
    assert [(part.low, part.photos) for part in sure] == [(60, 3), (90, 2)]
    assert sure[0].confidence == pytest.approx((65 + 61 + 67) / 3)
    assert sure[0].right == pytest.approx(200 / 3)
    assert some.calibration_error() == pytest.approx((3 * abs(193 / 3 - 200 / 3) + 2 * 5) / 5)
    assert evaluation(Answer(0, (0,), 100.0)).calibration_error() == 0


def test_the_json_is_stable(some: Evaluation) -> None:
    assert some.to_dict() == {
        "model": "resnet18-int8-<old>",
        "photos": 5,
        "top1": 80.0,
        "top1_interval": [37.55, 96.38],
        "top5": 100.0,
        "top5_interval": [56.55, 100.0],
        "fp32": {
            "top1": 80.0,
            "top1_interval": [37.55, 96.38],
            "agreement": 60.0,
            "agreement_interval": [23.07, 88.24],
            "confidence_difference": 1.0,
        },
        "calibration": {
            "error": 3.4,
            "confidence": 76.6,
            "bins": [
                {"from": 60.0, "to": 70.0, "photos": 3, "confidence": 64.33, "right": 66.67},
                {"from": 90.0, "to": 100.0, "photos": 2, "confidence": 95.0, "right": 100.0},
            ],
        },
        "confused": [{"truth": LABELS[3], "said": "tench", "photos": 1, "confidence": 67.0}],
    }


def test_the_worst_confused_come_first() -> None:
    once, twice = Answer(0, (1,), 99.0), Answer(1, (2,), 40.0)
    unsure = Answer(2, (0,), 30.0)
    pairs = evaluation(unsure, once, twice, twice).confused()
    assert [(pair["truth"], pair["said"], pair["photos"]) for pair in pairs] == [
        ("goldfish", "great white shark", 2),
        ("tench", "goldfish", 1),
        ("great white shark", "tench", 1),
    ]


def test_the_page_fits_80_columns(some: Evaluation) -> None:
    lines = to_text(some).splitlines()
    assert max(len(line) for line in lines) <= 80
    assert lines[3] == "top-1       80.0 %    37.5 to 96.4 %"
    assert lines[6] == "agreement   60.0 %    23.1 to 88.2 %  same first label as FP32"
    assert "calibration error 3.4 points: 76.6 % sure on average, 80.0 % right: too modest" in lines
    assert [line.split()[0] for line in lines if "│" in line] == ["confidence", "60", "90"]
    assert lines[-1].endswith("67 % sure")
    perfect = to_text(evaluation(Answer(0, (0,), 100.0)))
    assert "confused" not in perfect
    assert "balanced" in perfect
    assert max(len(line) for line in perfect.splitlines()) <= 80


def test_the_diagram_is_a_real_svg_or_png(some: Evaluation, tmp_path: Path) -> None:
    draw_reliability(some, tmp_path / "reliability.svg")
    root = ElementTree.parse(tmp_path / "reliability.svg").getroot()
    shapes = [element.get("fill") for element in root.iter(f"{SVG}rect") if element.get("x")]
    assert len(shapes) == 2 * 3  # right, sure and the count of each bin
    assert "resnet18-int8-<old>" in [element.text for element in root.iter(f"{SVG}text")]
    draw_reliability(some, tmp_path / "reliability.png")
    picture = cv2.imread(str(tmp_path / "reliability.png"))
    assert picture is not None
    assert (picture == (0xB3, 0x6F, 0x2F)).all(axis=2).sum() > 5000  # blue bars
    with pytest.raises(StateError, match="cannot be written"):
        draw_reliability(some, tmp_path / "nowhere" / "reliability.svg")
