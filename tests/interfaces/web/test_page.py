"""Tests the page in a real Chromium with a real server; screenshots are in artifacts/web/."""

from __future__ import annotations

import json
import shutil
import time
from collections.abc import Iterator
from datetime import datetime, timezone
from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from tests import daemon_process
from tests.broker import Brokers
from tests.interfaces.web.box import Box, has, photo, running
from tests.interfaces.web.whole import page_of, write_config

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

pytestmark = [pytest.mark.browser, pytest.mark.timeout(180)]

ARTIFACTS = Path(__file__).parents[3] / "artifacts" / "web"
FLAGS = """--headless --no-sandbox --disable-gpu --no-first-run --disable-background-networking
--disable-component-update --disable-sync"""
PHONE = {"width": 390, "height": 844}
DESK = {"width": 1280, "height": 800}
LABELS = ["nothing", "porch cat", "mail carrier", "parcel", "bicycle", "umbrella", "hedgehog", "snow"]
WAIT_MS = 20_000


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    playwright = pytest.importorskip(
        "playwright.sync_api", reason="playwright is not installed: pip install .[browser]"
    )
    chromium = shutil.which("chromium") or shutil.which("chromium-browser")
    if chromium is None:
        pytest.skip("chromium is not installed: apt-get install chromium")
    with playwright.sync_playwright() as started:
        launched = started.chromium.launch(executable_path=chromium, args=FLAGS.split())
        yield launched
        launched.close()


@pytest.fixture(scope="module")
def box() -> Iterator[Box]:
    with running(labels=LABELS) as started:
        assert has(started.recent.latest)
        yield started


class Watched:
    """A page whose errors fail the test."""

    def __init__(self, page: Page) -> None:
        self.page = page
        self.errors: list[str] = []
        self.foreign: list[str] = []
        page.set_default_timeout(WAIT_MS)
        page.on("pageerror", lambda error: self.errors.append(str(error)))
        page.on("console", lambda said: self.errors.append(said.text) if "Security Policy" in said.text else None)
        page.on("request", lambda asked: self._note(asked.url))

    def _note(self, url: str) -> None:
        if not url.startswith(("http://127.0.0.1:", "blob:", "data:")):
            self.foreign.append(url)

    def open(self, address: str) -> Page:
        self.page.goto(address)
        self.page.wait_for_selector("#picture:not([hidden])")
        self.page.wait_for_selector("#link[data-state=connected]")
        self.page.wait_for_function("() => document.querySelectorAll('#top li').length === 3")
        return self.page


@pytest.fixture
def watched(browser: Browser, request: pytest.FixtureRequest) -> Iterator[Watched]:
    """A page in a separate browser context; indirect parameters go to `new_context`."""
    context = browser.new_context(**({"viewport": DESK} | getattr(request, "param", {})))
    seen = Watched(context.new_page())
    yield seen
    ARTIFACTS.mkdir(parents=True, exist_ok=True)
    name = request.node.name.replace("/", "-").removeprefix("test_")
    seen.page.screenshot(path=ARTIFACTS / f"{name}.png", full_page=True)
    context.close()
    assert seen.errors == []
    assert seen.foreign == []


def says(page: Page, selector: str, text: str) -> None:
    """Wait until an element has a text."""
    page.wait_for_function(
        "([selector, text]) => document.querySelector(selector)?.textContent.includes(text)", arg=[selector, text]
    )


def test_settings_that_a_request_has_changed_are_shown(box: Box, watched: Watched) -> None:
    page = watched.open(box.server.address)
    assert not page.is_visible("#overrides")
    box.status.gauge(overrides={"camera.fps": 2.5})
    says(page, "#overrides", "camera.fps = 2.5: set by a request")
    box.status.gauge(overrides={})
    page.wait_for_selector("#overrides", state="hidden")


def test_the_label_moves_when_the_camera_sees_something_else(box: Box, watched: Watched) -> None:
    box.camera.shows = 1
    page = watched.open(box.server.address)
    says(page, "#label", "porch cat")
    box.camera.shows = 6
    says(page, "#label", "hedgehog")
    says(page, "#top li:first-child", "86.0 %")
    says(page, "#camera", "The camera delivers")
    says(page, "#shares", "hedgehog")


@pytest.mark.parametrize(
    ("watched", "away", "back"),
    [
        ({"locale": "en-GB"}, "The camera is away", "frames/s"),
        ({"viewport": PHONE, "is_mobile": True, "locale": "zh-CN", "color_scheme": "dark"}, "摄像头离线", "摄像头正常"),
    ],
    indirect=["watched"],
    ids=["english-desk", "chinese-phone"],
)
def test_while_the_camera_is_away_no_label_is_shown_and_nothing_jumps(
    box: Box, watched: Watched, away: str, back: str, request: pytest.FixtureRequest
) -> None:
    def places() -> Any:
        return page.evaluate(
            "['.live', '#label', '#state-title'].map(s => document.querySelector(s).getBoundingClientRect().y)"
        )

    box.camera.shows = 1
    page = watched.open(box.server.address)
    says(page, "#label", "porch cat")
    before = places()
    try:
        box.camera.plugged = False
        box.status.gauge(camera="waiting", camera_error="")
        says(page, "#label", away)
        assert page.locator("#top li").count() == 0
        page.wait_for_selector("#picture", state="hidden")
        assert places() == pytest.approx(before, abs=1)
        assert "porch cat" not in page.title()
        page.screenshot(path=ARTIFACTS / f"camera-away-{request.node.callspec.id}.png")
        page.reload()
        says(page, "#label", away)
    finally:
        box.camera.plugged = True
        box.status.gauge(camera="online", camera_error="")
    says(page, "#label", "porch cat")
    page.wait_for_function("() => document.querySelectorAll('#top li').length === 3")
    says(page, "#camera", back)


def test_the_timeline_shows_no_label_for_the_time_without_a_camera(box: Box, watched: Watched) -> None:
    """A cat for a minute, 44 seconds without frames, then a dog for five."""
    now = time.time()
    states = [
        {"time": datetime.fromtimestamp(now - ago, timezone.utc).isoformat(), "label": label, "reason": "change"}
        for ago, label in ((3000, "porch cat"), (300, "dog"))
    ]
    hour = {"points": [], "states": states, "away": [{"since": now - 2940, "until": now - 300}]}
    watched.page.route("**/api/history", lambda route: route.fulfill(json=hour))
    page = watched.open(box.server.address)
    says(page, "#shares", "dog")
    widths = page.evaluate(
        "[...document.querySelectorAll('#timeline rect')].slice(0, 2).map(r => Math.round(r.getAttribute('width')))"
    )
    assert widths == [10, 50]  # of 600 for the hour
    said = page.inner_text("#shares")
    assert "porch cat 17 %" in said
    assert "dog 83 %" in said


@pytest.mark.parametrize("watched", [{"viewport": PHONE, "has_touch": True, "is_mobile": True}], indirect=True)
def test_a_photo_is_dropped_pasted_and_chosen_on_a_phone(box: Box, watched: Watched) -> None:
    page = watched.open(box.server.address)
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
    chosen = {"name": "bike.png", "mimeType": "image/png", "buffer": photo(4)}
    page.set_input_files("#file", [chosen])
    says(page, ".answer", "bicycle")
    page.evaluate(
        """async (bytes) => {
            const data = new DataTransfer();
            data.items.add(new File([new Uint8Array(bytes)], "rain.png", {type: "image/png"}));
            document.dispatchEvent(new DragEvent("drop", {dataTransfer: data, bubbles: true, cancelable: true}));
        }""",
        list(photo(5)),
    )
    says(page, ".answer", "umbrella")
    page.evaluate(
        """async (bytes) => {
            const data = new DataTransfer();
            data.items.add(new File([new Uint8Array(bytes)], "snow.png", {type: "image/png"}));
            document.dispatchEvent(new ClipboardEvent("paste", {clipboardData: data, bubbles: true}));
        }""",
        list(photo(7)),
    )
    says(page, ".answer", "snow")
    assert page.locator(".answer").count() == 3
    assert page.locator("#asking").is_hidden()


def test_a_bad_photo_and_a_text_are_reported_in_a_sentence(box: Box, watched: Watched) -> None:
    page = watched.open(box.server.address)
    page.set_input_files("#file", [{"name": "cat.png", "mimeType": "image/png", "buffer": b"not a photo"}])
    says(page, ".answer .wrong", "cat.png is not a photo")


def test_what_the_box_does_not_read_is_called_by_its_name_beside_a_preview_that_works(
    box: Box, watched: Watched
) -> None:
    page = watched.open(box.server.address)
    heic = b"\0\0\0\x18ftypheic\0\0\0\0mif1heic" + bytes(99)
    page.set_input_files("#file", [{"name": "IMG_1.HEIC", "mimeType": "image/heic", "buffer": heic}])
    says(page, ".answer .wrong", "IMG_1.HEIC is an HEIC photo")
    says(page, ".answer .no-preview", "HEIC")
    page.evaluate(
        """async () => {
            const data = new DataTransfer();
            data.items.add(new File(["%PDF-1.7 "], "scan.pdf", {type: "application/pdf"}));
            document.dispatchEvent(new DragEvent("drop", {dataTransfer: data, bubbles: true, cancelable: true}));
        }"""
    )
    says(page, ".answer .wrong", "scan.pdf is a PDF")


@pytest.mark.parametrize("watched", [{"locale": "zh-CN", "color_scheme": "dark"}], indirect=True)
def test_a_chinese_browser_in_the_dark_is_greeted_in_chinese_and_may_switch(box: Box, watched: Watched) -> None:
    page = watched.open(box.server.address)
    assert page.evaluate("document.documentElement.lang") == "zh"
    says(page, "#camera", "摄像头正常")
    assert page.evaluate("getComputedStyle(document.body).backgroundColor") == "rgb(13, 18, 17)"
    page.click("#language")
    says(page, "#camera", "The camera delivers")
    page.reload()
    says(page, "#state-title", "State")


def test_the_page_finds_its_way_by_keyboard_alone(box: Box, watched: Watched) -> None:
    page = watched.open(box.server.address)
    reached = []
    for _ in range(6):
        page.keyboard.press("Tab")
        reached.append(page.evaluate("document.activeElement.id || document.activeElement.className"))
    assert reached[:3] == ["skip", "language", "file"]
    assert "log" in reached


@pytest.mark.parametrize(
    "watched",
    [
        {"color_scheme": scheme, "viewport": size, "reduced_motion": "reduce"}
        for scheme in ("light", "dark")
        for size in (PHONE, DESK)
    ],
    indirect=True,
    ids=["light-phone", "light-desk", "dark-phone", "dark-desk"],
)
def test_accessibility_without_serious_findings(box: Box, watched: Watched) -> None:
    pytest.importorskip("axe_playwright_python", reason="needs axe-core: pip install .[browser]")
    axe = (files("axe_playwright_python") / "axe.min.js").read_text(encoding="utf-8")
    page = watched.open(box.server.address)
    page.set_input_files("#file", [{"name": "bike.png", "mimeType": "image/png", "buffer": photo(4)}])
    says(page, ".answer", "bicycle")
    # Our policy forbids foreign scripts, but not evaluate through the debugger.
    page.evaluate(axe)
    found: dict[str, Any] = page.evaluate("axe.run(document, {resultTypes: ['violations']})")
    serious = [
        f"{one['impact']} {one['id']}: {json.dumps([node['html'] for node in one['nodes']])[:400]}"
        for one in found["violations"]
        if one["impact"] in ("serious", "critical")
    ]
    assert serious == []


def test_a_server_that_comes_back_is_found_again(watched: Watched) -> None:
    with running(labels=LABELS) as first:
        watched.open(first.server.address)
    page = watched.page
    page.wait_for_selector("#link[data-state=reconnecting]")
    says(page, "#link", "reconnecting")
    with running(labels=LABELS, port=int(first.server.address.rpartition(":")[2])):
        page.wait_for_selector("#link[data-state=connected]")
        page.wait_for_selector("#picture:not([hidden])")


def test_a_token_is_asked_for_once(watched: Watched, tmp_path: Path) -> None:
    token = tmp_path / "token"
    token.write_text("correct-horse-battery-staple")
    with running(labels=LABELS, token_file=token) as box:
        page = watched.page
        page.goto(box.server.address)
        page.fill("#token", "wrong-horse-battery-staple")
        page.click("button")
        page.wait_for_selector(".wrong:visible")
        page.fill("#token", "correct-horse-battery-staple")
        page.click("button")
        page.wait_for_selector("#picture:not([hidden])")
        assert page.evaluate("document.cookie") == ""  # HttpOnly


def test_a_person_sees_the_broker_die_and_come_back(
    watched: Watched, photo_video: Path, bundle_dir: Path, brokers: Brokers, tmp_path: Path
) -> None:
    broker = brokers.start()
    config = write_config(tmp_path / "run", photo_video, bundle_dir, broker.url)
    with daemon_process.running(config) as started:
        started.wait_ready()
        page = watched.open(page_of(started))
        says(page, "#broker", "The broker is connected")
        broker.kill()
        says(page, "#broker", "The broker is away")
        says(page, "#log", "broker")
        broker.start()
        says(page, "#broker", "The broker is connected")
        assert started.stop() < daemon_process.STOP_WITHIN_S + daemon_process.SLACK_S
