"""Tests that a hot or underpowered board classifies fewer frames, with the reason, and that counters outlive a run."""

from pathlib import Path

from edge.daemon.health import Health
from edge.status.snapshot import Status

ZONE = "sys/class/thermal/thermal_zone0"


class Board:
    """A board whose temperature, clock and camera state the test sets."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.now = 0.0
        self.status = Status()
        self.limits: list[float] = []
        self.offsets: list[float] = []
        self.celsius(50)
        self.health = Health(
            self.status,
            root / "counters.json",
            limit_fps=self.limits.append,
            on_synchronised=self.offsets.append,
            root=root,
            clock=lambda: self.now,
        )

    def celsius(self, temperature: float) -> None:
        zone = self.root / ZONE
        zone.mkdir(parents=True, exist_ok=True)
        (zone / "type").write_text("cpu-thermal\n")
        (zone / "temp").write_text(f"{temperature * 1000:.0f}\n")

    def run(self, seconds: float, fps: float) -> None:
        """Let time pass, with frames at the permitted rate."""
        for _ in range(int(seconds)):
            self.now += 1
            self.status.count("frames_classified", round(min([fps, *self.limits[-1:]]) if self.limit else fps))
            self.health.tick()

    @property
    def limit(self) -> float:
        return self.limits[-1] if self.limits else 0.0

    @property
    def gauges(self) -> dict[str, object]:
        return dict(self.status.snapshot().gauges)


def test_a_hot_board_steps_down_says_why_and_steps_up_again_when_it_is_cool(tmp_path: Path) -> None:
    board = Board(tmp_path)
    board.run(20, fps=16)
    assert (board.limits, board.gauges["fps"], board.gauges["temperature_celsius"]) == ([], 16.0, 50.0)

    board.celsius(84)
    board.run(40, fps=16)
    assert board.limits == [8.0, 4.0, 2.0]
    assert "84 °C" in str(board.gauges["slowed_because"])

    board.celsius(75)  # between the limits: it stays as it is
    board.run(300, fps=16)
    assert board.limits == [8.0, 4.0, 2.0]

    board.celsius(60)
    board.run(250, fps=16)
    assert board.limits == [8.0, 4.0, 2.0, 4.0, 8.0, 0.0]
    assert board.gauges["slowed_because"] == ""


def test_a_board_that_is_hot_from_the_start_keeps_half_of_its_rate_however_long_the_model_loaded(
    tmp_path: Path,
) -> None:
    for frames_at_first in (0, 5):
        board = Board(tmp_path)
        board.celsius(84)
        board.now += 60
        board.status.count("frames_classified", frames_at_first)
        board.health.tick()
        board.run(10, fps=10)
        assert board.limits[0] == 5.0


def test_camera_restarts_are_counted_over_the_life_of_the_device(tmp_path: Path) -> None:
    for run in (1, 2, 3):
        board = Board(tmp_path)
        board.status.count("camera_restarts")
        board.status.count("camera_reopens", 2)
        board.health.save()
        assert board.gauges["camera_restarts_total"] == run
        assert board.gauges["camera_reopens_total"] == 2 * run


def test_a_board_without_any_indicator_is_simply_not_slowed(tmp_path: Path) -> None:
    board = Board(tmp_path)
    (tmp_path / ZONE / "temp").unlink()
    board.run(30, fps=5)
    assert board.limits == []
    assert board.gauges["temperature_celsius"] is None
    assert board.gauges["time_synced"] in (True, False)
