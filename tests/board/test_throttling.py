"""Tests that a board that is too hot or short of power is given less work in steps, with the reason, and later more."""

from __future__ import annotations

from pathlib import Path

import pytest

from edge.board import host
from edge.board.throttling import COOL_CELSIUS, HOT_CELSIUS, MIN_FPS, FrameRateGovernor


class Board:
    """A Raspberry Pi's /sys whose temperature and supply the test sets, read every five seconds as in the daemon."""

    def __init__(self, root: Path, fps: float = 20.0) -> None:
        self.root, self.fps, self.now = root, fps, 0.0
        self.governor = FrameRateGovernor()
        self.limits: list[float] = []
        self.say(50.0)

    def say(self, celsius: float, throttled: str = "0", over_current: int = 0) -> None:
        for name, content in {
            "sys/class/thermal/thermal_zone0/type": "cpu-thermal",
            "sys/class/thermal/thermal_zone0/temp": str(int(celsius * 1000)),
            "sys/devices/platform/soc/soc:firmware/get_throttled": throttled,
            "sys/class/hwmon/hwmon0/name": "soctherm_oc",
            "sys/class/hwmon/hwmon0/oc1_event_cnt": str(over_current),
        }.items():
            file = self.root / name
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(content + "\n", encoding="utf-8")

    def run(self, seconds: float) -> FrameRateGovernor:
        end = self.now + seconds
        while self.now < end:
            self.now += 5.0
            running = min(self.fps, self.governor.fps_limit or self.fps)
            self.governor.update(self.now, host.strain(self.root), running)
            if not self.limits or self.governor.fps_limit != self.limits[-1]:
                self.limits.append(self.governor.fps_limit)
        return self.governor


@pytest.fixture
def board(tmp_path: Path) -> Board:
    return Board(tmp_path)


def test_a_cool_board_is_left_alone(board: Board) -> None:
    governor = board.run(600)
    assert (governor.fps_limit, governor.reason) == (0.0, "")


def test_heat_steps_down_and_cold_steps_up_again(board: Board, caplog: pytest.LogCaptureFixture) -> None:
    board.say(HOT_CELSIUS + 3)
    governor = board.run(120)
    assert governor.fps_limit == 2.5
    assert governor.reason == (
        "At most 2.5 frames a second because the processor is 83 °C hot; give it air or a heat sink."
    )
    board.say(COOL_CELSIUS - 5)
    governor = board.run(400)
    assert (governor.fps_limit, governor.reason) == (0.0, "")
    assert board.limits == [10.0, 5.0, 2.5, 5.0, 10.0, 0.0]
    assert len(caplog.records) == 6, "one line a step"
    assert len({record.levelno for record in caplog.records}) == 1


def test_between_the_limits_nothing_changes(board: Board) -> None:
    board.say(HOT_CELSIUS)
    limit = board.run(5).fps_limit
    board.say((HOT_CELSIUS + COOL_CELSIUS) / 2)
    assert board.run(3600).fps_limit == limit == 10.0


def test_a_board_on_the_edge_does_not_swing(board: Board) -> None:
    for _ in range(30):
        board.say(HOT_CELSIUS + 0.5)
        board.run(10)
        board.say(HOT_CELSIUS - 1)
        board.run(10)
    assert board.limits == [10.0, 5.0, 2.5]


def test_a_moment_of_calm_is_not_enough(board: Board) -> None:
    board.say(HOT_CELSIUS + 5)
    board.run(5)
    for _ in range(20):
        board.say(COOL_CELSIUS - 10)
        board.run(30)
        board.say(COOL_CELSIUS + 1)
        board.run(5)
    assert board.limits == [10.0]


def test_under_voltage_is_reported_with_its_remedy(board: Board) -> None:
    board.say(50, throttled="50005")
    governor = board.run(5)
    assert governor.fps_limit == 10.0
    assert "under-voltage" in governor.reason
    assert "adapter" in governor.reason
    board.say(50, throttled="50000")  # "since boot" stays set until a reboot, and is no problem now
    assert board.run(300).fps_limit == 0.0


def test_throttling_alone_is_a_complaint(board: Board) -> None:
    board.say(65, throttled="4")
    assert "slowed its processor down" in board.run(5).reason


def test_a_jetsons_new_over_current_events_count_and_old_ones_do_not(board: Board) -> None:
    board.say(50, over_current=7)
    assert board.run(60).fps_limit == 0.0
    board.say(50, over_current=8)
    assert "under-voltage" in board.run(5).reason
    assert board.run(300).fps_limit == 0.0


def test_the_limit_has_a_floor_and_a_camera_that_delivers_nothing_none(tmp_path: Path) -> None:
    slow = Board(tmp_path, fps=1.0)
    slow.say(95)
    assert slow.run(300).fps_limit == MIN_FPS
    idle = Board(tmp_path, fps=0.0)
    idle.say(95)
    assert idle.run(300).fps_limit == 0.0


def test_a_board_without_a_thermometer_is_left_alone() -> None:
    governor = FrameRateGovernor()
    for now in range(0, 1000, 5):
        governor.update(float(now), host.Strain(), 10.0)
    assert governor.fps_limit == 0.0
