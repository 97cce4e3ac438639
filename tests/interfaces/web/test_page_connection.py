"""Tests in a real Chromium what the page does with many tabs, lost connections and refusals."""

from __future__ import annotations

import logging
import time
from collections.abc import Iterator
from email.utils import formatdate
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from edge.interfaces.web import event_stream
from tests.interfaces.web import broken_line
from tests.interfaces.web.box import Box, has, photo, running
from tests.interfaces.web.test_page import LABELS, WAIT_MS, Watched, browser, says, watched

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page, Route

__all__ = ["browser", "watched"]  # fixtures
pytestmark = [pytest.mark.browser, pytest.mark.timeout(180)]

TOKEN = "correct-horse-battery-staple"
IN_ENGLISH = pytest.mark.parametrize("watched", [{"locale": "en-GB"}], indirect=True)
# A headless Chromium shows every tab; this is what the page notices when the user changes to another one.
HIDE = """hidden => {
    Object.defineProperty(document, "hidden", {get: () => hidden, configurable: true});
    document.dispatchEvent(new Event("visibilitychange"));
}"""
WORDS = {
    429: "busy with other requests",
    503: "cannot answer at the moment",
    502: "not the box behind it",
    504: "not the box behind it",
    500: "a fault in it",
    418: "status 418",
}
NO_LABELS = "() => document.querySelectorAll('#top li').length === 0"


@pytest.fixture
def box(monkeypatch: pytest.MonkeyPatch) -> Iterator[Box]:
    """A box that has room for one event stream."""
    monkeypatch.setattr(event_stream, "MAX_LISTENERS", 1)
    with running(labels=LABELS) as started:
        assert has(started.recent.latest)
        yield started


def next_picture(page: Page) -> None:
    """Wait until the live picture shows another frame than now."""
    now = page.get_attribute("#picture", "src")
    page.wait_for_function(
        "now => { const p = document.querySelector('#picture'); return !p.hidden && p.src !== now; }", arg=now
    )


def free_stream(box: Box) -> bool:
    """Whether no page holds the only event stream."""
    with box.client.stream("GET", "/api/stream") as response:
        return response.status_code == 200


@pytest.mark.parametrize("hidden", [False, True], ids=["shown", "hidden"])
def test_seven_tabs_each_show_the_label(browser: Browser, hidden: bool) -> None:
    """A browser opens six connections to one host; seven windows beside each other, or tabs."""
    with running(labels=LABELS) as box:
        context = browser.new_context(locale="en-GB")
        pages = []
        for _ in range(7):
            page = context.new_page()
            page.set_default_timeout(WAIT_MS)
            page.goto(box.server.address)
            says(page, "#label", "porch cat")
            next_picture(page)
            pages.append(page)
            if hidden:
                page.evaluate(HIDE, True)
        box.camera.shows = 6
        for page in pages:
            if hidden:
                page.evaluate(HIDE, False)
            says(page, "#label", "hedgehog")
            says(page, "#link", "live")
            if hidden:
                page.evaluate(HIDE, True)
        context.close()


def test_a_hidden_tab_holds_no_stream_and_asks_for_no_picture(box: Box, watched: Watched) -> None:
    page = watched.open(box.server.address)
    assert not free_stream(box)
    page.evaluate(HIDE, True)
    assert has(lambda: free_stream(box))
    with page.expect_event("request", timeout=WAIT_MS):  # the listener works
        page.evaluate("fetch('/healthz')")
    asked: list[str] = []
    page.on("request", lambda request: asked.append(request.url))
    page.wait_for_timeout(1000)  # six pictures' time
    assert asked == []
    assert "porch cat" not in page.title()
    page.evaluate(HIDE, False)
    says(page, "#link", "live")
    next_picture(page)


def test_a_tab_opened_in_the_background_connects_once_it_is_shown(box: Box, watched: Watched) -> None:
    page = watched.page
    page.add_init_script("Object.defineProperty(document, 'hidden', {get: () => true, configurable: true})")
    asked: list[str] = []
    page.on("request", lambda request: asked.append(request.url.removeprefix(box.server.address)))
    page.goto(box.server.address)
    page.wait_for_timeout(500)
    assert [path for path in asked if path == "/snapshot.jpg" or path.startswith("/api")] == []
    page.evaluate(HIDE, False)
    says(page, "#label", "porch cat")
    next_picture(page)


def test_a_tab_that_was_hidden_has_missed_nothing_and_shows_nothing_twice(box: Box, watched: Watched) -> None:
    page = watched.open(box.server.address)
    logging.getLogger("edge.test").warning("The first line")
    says(page, "#log", "The first line")
    for shows in (3, 4):
        page.evaluate(HIDE, True)
        logging.getLogger("edge.test").warning("Now %s", LABELS[shows])
        box.camera.shows = shows
        assert has(lambda shows=shows: box.recent.latest().label == LABELS[shows])
        page.evaluate(HIDE, False)
        says(page, "#label", LABELS[shows])
        says(page, "#log", LABELS[shows])
    box.camera.shows = 5  # while it is shown
    says(page, "#label", LABELS[5])
    page.wait_for_function("() => document.querySelectorAll('#shares li').length >= 3")
    said = [title.split(",")[0] for title in page.locator("#timeline title").all_text_contents()]
    happened = [event.label for event in box.recent.states()]
    assert said == [label for n, label in enumerate(happened) if n == 0 or happened[n - 1] != label]
    lines = page.locator("#log li").all_text_contents()
    assert len(lines) == len(set(lines))


def test_the_page_is_found_alive_with_back(box: Box, watched: Watched) -> None:
    page = watched.open(box.server.address)
    page.goto("about:blank")
    assert has(lambda: free_stream(box))
    page.go_back()
    says(page, "#label", "porch cat")
    next_picture(page)


def test_a_page_that_the_browser_preserved_goes_on(box: Box, watched: Watched) -> None:
    page = watched.open(box.server.address)
    page.evaluate("dispatchEvent(new PageTransitionEvent('pagehide', {persisted: true}))")
    assert has(lambda: free_stream(box))
    page.evaluate("dispatchEvent(new PageTransitionEvent('pageshow', {persisted: true}))")
    says(page, "#link", "live" if page.evaluate("document.documentElement.lang") == "en" else "实时")
    next_picture(page)


@IN_ENGLISH
def test_a_picture_that_is_cut_anywhere_does_not_end_the_live_view(watched: Watched) -> None:
    with running(labels=LABELS) as box, broken_line.to(box.server.address) as line:
        page = watched.open(line.address)
        for after in (0, 10, 100, 700, 1100):  # in the status line, the headers and the picture
            line.cut["/snapshot.jpg"] = after
            page.wait_for_selector("#picture", state="hidden")
            says(page, "#no-picture", "does not answer")
            line.cut.clear()
            next_picture(page)


def test_a_picture_that_a_proxy_ends_early_is_not_shown(watched: Watched) -> None:
    """Without Content-Length nothing but the picture shows that a part is missing."""
    with running(labels=LABELS) as box:
        whole = box.client.get("/snapshot.jpg").content
        page = watched.open(box.server.address)
        half = whole[: len(whole) // 2]
        page.route("**/snapshot.jpg", lambda route: route.fulfill(content_type="image/jpeg", body=half))
        page.wait_for_selector("#picture", state="hidden")
        page.unroute("**/snapshot.jpg")
        next_picture(page)


def test_a_line_on_which_nothing_comes_any_more_is_given_up(watched: Watched) -> None:
    with running(labels=LABELS) as box, broken_line.to(box.server.address) as line:
        page = watched.page
        page.clock.install()
        watched.open(line.address)
        line.silent |= {"/snapshot.jpg", "/api/stream"}
        page.wait_for_timeout(500)
        page.clock.fast_forward(11_000)
        page.wait_for_selector("#link[data-state=reconnecting]")
        page.wait_for_function(NO_LABELS)
        line.silent.clear()
        page.clock.fast_forward(20_000)
        page.wait_for_selector("#link[data-state=connected]")
        next_picture(page)


def test_a_picture_that_trickles_is_given_up_after_a_minute(watched: Watched) -> None:
    with running(labels=LABELS) as box, broken_line.to(box.server.address) as line:
        page = watched.page
        page.clock.install()
        watched.open(line.address)
        line.slow.add("/snapshot.jpg")
        page.wait_for_timeout(1000)
        count = line.asked.count("/snapshot.jpg")
        page.clock.run_for(5_000)
        assert line.asked.count("/snapshot.jpg") == count
        page.clock.run_for(61_000)
        assert has(lambda: line.asked.count("/snapshot.jpg") > count or bool(page.wait_for_timeout(50)))
        line.slow.clear()
        page.clock.run_for(20_000)
        next_picture(page)


@IN_ENGLISH
def test_a_page_that_is_one_too_many_says_so_and_waits_its_turn(box: Box, watched: Watched) -> None:
    with box.client.stream("GET", "/api/stream") as other:
        assert other.status_code == 200
        page = watched.page
        page.clock.install()
        page.goto(box.server.address)
        says(page, "#link", "busy")
        says(page, "#label", "busy with other requests")
        page.wait_for_selector("#picture:not([hidden])")
    page.clock.fast_forward(11_000)  # Retry-After: 10
    says(page, "#link", "live")
    says(page, "#label", "porch cat")


def refuse(status: int, **headers: str) -> Any:
    """A handler that answers as a proxy does, in HTML."""
    headers = {name.replace("_", "-"): value for name, value in headers.items()}

    def handle(route: Route) -> None:
        route.fulfill(status=status, headers=headers, content_type="text/html", body="<h1>No.</h1>")

    return handle


@IN_ENGLISH
def test_every_refusal_has_its_own_words(watched: Watched) -> None:
    with running(labels=LABELS) as box:
        page = watched.page
        page.clock.install()
        watched.open(box.server.address)
        for status, words in WORDS.items():
            page.route("**/api/stream", refuse(status))
            page.evaluate(HIDE, True)
            page.evaluate(HIDE, False)
            says(page, "#label", words)
            page.unroute("**/api/stream")
            page.clock.fast_forward(10_000)
            says(page, "#link", "live")
            page.route("**/predict", refuse(status))
            page.set_input_files("#file", [{"name": "bike.png", "mimeType": "image/png", "buffer": photo(4)}])
            tries = 5 if status in (429, 503) else 1
            for _ in range(tries - 1):
                says(page, "#doing", "busy")
                page.clock.fast_forward(10_000)
            says(page, ".answer .wrong", words)
            page.unroute("**/predict")
            page.evaluate("document.querySelector('#answers').replaceChildren()")


@IN_ENGLISH
def test_a_photo_that_a_proxy_finds_too_large_or_that_is_lost_is_reported(box: Box, watched: Watched) -> None:
    page = watched.open(box.server.address)
    for handle, words in (
        (refuse(413), "larger than the box or its proxy accepts"),
        (refuse(401), "log in again"),
        (lambda route: route.abort("connectionreset"), "does not answer"),
    ):
        page.route("**/predict", handle)
        page.set_input_files("#file", [{"name": "bike.png", "mimeType": "image/png", "buffer": photo(4)}])
        says(page, ".answer:first-child .wrong", words)
        page.unroute("**/predict")


@IN_ENGLISH
@pytest.mark.parametrize("form", ["seconds", "date"])
def test_a_photo_waits_as_long_as_the_box_asks_for(box: Box, watched: Watched, form: str) -> None:
    page = watched.open(box.server.address)
    asked: list[float] = []

    def busy_once(route: Route) -> None:
        asked.append(time.monotonic())
        if len(asked) > 1:
            route.continue_()
            return
        # The box's clock is an hour behind: only the difference counts.
        now = time.time() - 3600
        retry = "2" if form == "seconds" else formatdate(now + 2, usegmt=True)
        refuse(429, Retry_After=retry, Date=formatdate(now, usegmt=True))(route)

    page.route("**/predict", busy_once)
    page.set_input_files("#file", [{"name": "bike.png", "mimeType": "image/png", "buffer": photo(4)}])
    says(page, "#doing", "busy")
    says(page, ".answer", "bicycle")
    assert 1.5 < asked[1] - asked[0] < 10


@IN_ENGLISH
def test_a_new_token_asks_for_a_login_and_a_restart_does_not(watched: Watched, tmp_path: Path) -> None:
    token = tmp_path / "token"
    token.write_text(TOKEN)
    page = watched.page
    with running(labels=LABELS, token_file=token) as box:
        port = int(box.server.address.rpartition(":")[2])
        page.goto(box.server.address)
        page.fill("#token", TOKEN)
        page.click("button")
        says(page, "#label", "porch cat")
    page.wait_for_selector("#link[data-state=reconnecting]")
    with running(labels=LABELS, token_file=token, port=port):
        says(page, "#label", "porch cat")
        next_picture(page)
    token.write_text(TOKEN.upper())
    with running(labels=LABELS, token_file=token, port=port):
        page.wait_for_url("**/login")


def test_a_page_that_stays_open_over_an_upgrade_takes_the_new_scripts(box: Box, watched: Watched) -> None:
    page = watched.open(box.server.address)
    says(page, "#label", "porch cat")
    page.evaluate("window.isOld = true")
    box.status.gauge(version="99.0.0")
    page.wait_for_function("() => !window.isOld")
    page.wait_for_function("() => document.querySelector('#version').textContent.endsWith('99.0.0')")
    says(page, "#label", "porch cat")
    page.evaluate("window.isOld = true")
    next_picture(page)
    assert page.evaluate("window.isOld"), "once, not for ever"


@IN_ENGLISH
def test_the_login_form_has_words_for_what_is_not_a_wrong_token(watched: Watched, tmp_path: Path) -> None:
    token = tmp_path / "token"
    token.write_text(TOKEN)
    page = watched.page
    with running(labels=LABELS, token_file=token) as box:
        page.goto(f"{box.server.address}/login")
        page.fill("#token", TOKEN)
        for handle, words in (
            (lambda route: route.abort("connectionreset"), "does not answer"),
            (refuse(502), "not the box behind it"),
            (refuse(413), "larger than"),
        ):
            page.route("**/login", handle)
            page.click("button")
            says(page, ".wrong", words)
            page.unroute("**/login")
        page.route("**/login", refuse(429, Retry_After="1"))
        page.click("button")
        says(page, ".wrong", "trying again")
        page.unroute("**/login")
        says(page, "#label", "porch cat")  # it is sent again without another click


def test_the_login_form_works_without_scripts(browser: Browser, tmp_path: Path) -> None:
    token = tmp_path / "token"
    token.write_text(TOKEN)
    with running(labels=LABELS, token_file=token) as box:
        context = browser.new_context(java_script_enabled=False)
        page = context.new_page()
        page.goto(box.server.address)
        page.fill("#token", "wrong-horse-battery-staple")
        page.click("button")
        page.wait_for_selector(".wrong:visible")
        page.fill("#token", TOKEN)
        page.click("button")
        page.wait_for_selector("#main")
        context.close()


@pytest.mark.parametrize("width", [320, 390, 735, 740, 1023, 1280])
def test_the_login_form_lies_within_its_card(browser: Browser, tmp_path: Path, width: int) -> None:
    token = tmp_path / "token"
    token.write_text(TOKEN)
    with running(labels=LABELS, token_file=token) as box:
        page = browser.new_page(viewport={"width": width, "height": 800})
        page.goto(box.server.address)
        card, heading, form = (page.locator(part).bounding_box() for part in (".card", "h1", "form"))
        page.close()
    assert card
    assert heading
    assert form
    for part in (heading, form):
        middle = part["x"] + part["width"] / 2
        assert middle == pytest.approx(card["x"] + card["width"] / 2, abs=1)
        assert card["x"] <= part["x"]
    assert heading["y"] + heading["height"] <= form["y"]
