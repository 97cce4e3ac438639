"""What scripts/test-arm64 prints and refuses, from logs as counter.c and count.py write them."""

from pathlib import Path

import pytest

from scripts.arm64 import report

CPU = "cortex-a72"
LIMIT = report.Limit(millions=200, megabytes=60)


def log(engine: str, *counts: str, agreed: bool = True) -> list[str]:
    """The lines of one engine: a warm-up, which took ten times as much, and its counts."""
    lines = [f"engine {engine}", "COUNTED 0 9000000000 900000000 90000000 5000000"]
    lines += [f"COUNTED {2 * number} {count}" for number, count in enumerate(counts, 1)]
    return [*lines, f"agreement {CPU} {engine} 2/2"] if agreed else lines


@pytest.fixture(autouse=True)
def limits(monkeypatch: pytest.MonkeyPatch) -> None:
    """One engine of this project, with both limits."""
    monkeypatch.setattr(report, "LIMITS", {CPU: {report.KERNELS: LIMIT}})


KEPT = log(report.KERNELS, "199000000 40000000 9000000 0", "200000000 30000000 9500000 3")


def test_the_most_of_the_photos_is_printed() -> None:
    """The warm-up is not part of it; traffic is that of the photo with the most in all."""
    assert list(report.printed(CPU, report.counts_of(KEPT))) == [
        f"instructions {CPU} {report.KERNELS} 200.00",
        f"traffic {CPU} {report.KERNELS} 40.0 9.0",
    ]
    assert not list(report.problems(CPU, report.counts_of(KEPT)))


@pytest.mark.parametrize(
    ("counts", "sentence"),
    [
        ("200000001 40000000 9000000 0", "needs more than 200 million instructions"),
        ("199000000 51000000 9000001 0", "moves more than 60 MB"),
        ("199000000 40000000 9000000 1001", "its traffic is not whole"),
    ],
)
def test_one_photo_above_a_limit_is_refused(counts: str, sentence: str) -> None:
    """The other photo keeps it."""
    (problem,) = report.problems(CPU, report.counts_of(log(report.KERNELS, "1 1 1 0", counts)))
    assert sentence in problem


@pytest.mark.parametrize("lines", [[], log(report.KERNELS, "1 1 1 0", agreed=False)], ids=["absent", "unfinished"])
def test_an_engine_that_was_not_counted_is_refused(lines: list[str]) -> None:
    """It never began, or its process ended in the middle."""
    assert list(report.problems(CPU, report.counts_of(lines))) == [f"{report.KERNELS} was not counted on {CPU}."]


def test_another_runtime_with_fewer_instructions_is_reported() -> None:
    """But not one of this project's other engines, nor a runtime that needs more."""
    lines = [*KEPT, *log(f"{report.OURS}other", "1 1 1 0"), *log("slower", "200000001 1 1 0")]
    assert not list(report.problems(CPU, report.counts_of(lines)))
    (problem,) = report.problems(CPU, report.counts_of([*lines, *log("faster", "200000000 1 1 0")]))
    assert problem == f"{report.KERNELS} does not need fewer instructions than faster on {CPU}."


def test_the_script_ends_with_the_verdict(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Counts first, then what is wrong."""
    (tmp_path / "log").write_text("\n".join(KEPT), encoding="utf-8")
    monkeypatch.setattr("sys.argv", ["report.py", CPU, str(tmp_path / "log")])
    assert report.main() == 0
    monkeypatch.setattr(report, "LIMITS", {CPU: {report.KERNELS: report.Limit(1)}})
    assert report.main() == 1
    assert capsys.readouterr().out.splitlines()[-1].endswith(f"needs more than 1 million instructions on {CPU}.")
