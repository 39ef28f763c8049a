"""The demo, seen by a visitor with two tabs."""

from __future__ import annotations

import base64
import http.client
import json
import socket
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from urllib.parse import urlsplit

import psycopg
import pytest

from tests.browser.conftest import Browser
from tests.browser.pages import Tab
from tests.examples.serving import dev, running

pytestmark = pytest.mark.timeout(180)

OpenTab = Callable[[str], str]


@pytest.fixture
def room(request: pytest.FixtureRequest) -> str:
    """A room for each test."""
    return str(request.node.name).removeprefix("test_")[:40]


def console(browser: Browser) -> list[str]:
    """What was written to the console since it was last asked for."""
    entries = browser.get_log("browser")  # type: ignore[no-untyped-call]
    return [entry["message"] for entry in entries]


@pytest.fixture
def visit(
    browser: Browser, open_tab: OpenTab, demo_url: str, room: str
) -> Iterator[Callable[[], Tab]]:
    """Opens the room in a new tab; no script may have failed in any of them."""

    def visit() -> Tab:
        tab = Tab(browser, open_tab(f"{demo_url}/?room={room}"))
        tab.wait_for_text("#status-text", "Connected")
        return tab

    console(browser)
    yield visit
    assert not console(browser)


def test_one_tabs_change_is_seen_in_the_other(visit: Callable[[], Tab]) -> None:
    one, two = visit(), visit()
    one.wait_for_text("#count", "0")
    one.press('[data-add="10"]')
    two.wait_for_text("#count", "10")
    two.press('[data-add="-1"]')
    one.wait_for_text("#count", "9")
    two.write("#note", "Tea at four")
    one.wait(lambda: one.property("#note", "value") == "Tea at four", "the note")
    one.press('#colours [data-colour="violet"]')
    colour = "return document.documentElement.dataset.colour"
    two.wait(lambda: two.run(colour) == "violet", "the colour")
    assert '"note": "Tea at four"' in two.text("#state-json")


def test_tabs_are_listed_until_they_are_closed_or_go_elsewhere(
    visit: Callable[[], Tab],
) -> None:
    one, two, three = visit(), visit(), visit()
    one.wait(lambda: len(one.texts("#people li")) == 3, "three people")
    two.close()
    one.wait(lambda: len(one.texts("#people li")) == 2, "two people")
    three.run("location.href = 'about:blank'")
    one.wait(lambda: len(one.texts("#people li")) == 1, "one person")
    assert "(this tab)" in one.text("#people li")


def test_a_streamed_call_shows_every_chunk_and_then_its_final_value(
    visit: Callable[[], Tab],
) -> None:
    tab = visit()
    tab.write("#how-many", "6")
    # The page sees each chunk, however late we look.
    tab.run(
        "const list = document.querySelector('#primes'); window.seen = [];"
        "new MutationObserver(() => seen.push(list.querySelectorAll('b').length))"
        ".observe(list, { childList: true, subtree: true })"
    )
    tab.press("#stream-form button")
    tab.wait(lambda: "as the final value" in tab.text("#stream-end"), "the end")
    assert tab.texts("#primes b") == ["2", "3", "5", "7", "11", "13"]
    assert set(tab.run("return window.seen")) >= {1, 2, 3, 4, 5, 6}
    assert tab.text("#stream-end").endswith("sum: 41")


def test_the_sql_rows_of_each_change_appear_in_every_tab(
    visit: Callable[[], Tab],
) -> None:
    one, two = visit(), visit()
    one.wait_for_text("#rows-empty", "No rows yet. Press +1.")
    one.press('[data-add="1"]')
    one.press('[data-add="10"]')
    for tab in (one, two):
        wait_for_rows(tab, 2)
        assert tab.texts("#rows td:nth-child(4)") == ["+10", "+1"]
        assert tab.texts("#rows td:nth-child(5)") == ["11", "1"]
    later = visit()
    wait_for_rows(later, 2)


def wait_for_rows(tab: Tab, count: int) -> None:
    tab.wait(lambda: len(tab.texts("#rows tr")) == count, f"{count} rows")


def test_methods_can_be_called_and_their_errors_are_shown(
    visit: Callable[[], Tab],
) -> None:
    tab = visit()
    tab.press("#call-form button")
    tab.wait(lambda: tab.texts("#call-log .result") == ["5"], "the result of add(5)")
    tab.choose("#method", "no_such_method")
    tab.press("#call-form button")
    wanted = "Method no_such_method does not exist"
    tab.wait(lambda: tab.texts("#call-log .result")[0] == wanted, wanted)
    tab.choose("#method", "add, with a bad argument")
    tab.press("#call-form button")
    tab.wait(lambda: "by" in tab.texts("#call-log .result")[0], "the argument's name")
    tab.write("#args", "not json")
    tab.press("#call-form button")
    tab.wait(lambda: "JSON list" in tab.texts("#call-log .result")[0], "a hint")
    assert len(tab.texts("#call-log .failed")) == 3


def test_a_cheat_is_refused_and_taken_back(visit: Callable[[], Tab]) -> None:
    tab = visit()
    tab.press('[data-add="1"]')
    tab.wait_for_text("#count", "1")
    tab.press("#cheat")
    tab.wait(lambda: "State update rejected" in tab.text("#refused"), "the refusal")
    assert tab.text("#count") == "1"


def test_curl_changes_what_open_tabs_show(
    visit: Callable[[], Tab], demo_url: str, room: str
) -> None:
    tab = visit()
    tab.wait_for_text("#count", "0")
    url = f"{demo_url}/agents/room/{room}"
    with urllib.request.urlopen(url, data=b'{"by": 5}') as answer:
        assert json.load(answer) == {"count": 5}
    tab.wait_for_text("#count", "5")
    assert tab.texts("#rows td:nth-child(3)") == ["curl"]


def test_the_sql_that_the_page_shows_reads_the_state_in_postgres(
    visit: Callable[[], Tab], demo_database: str, room: str
) -> None:
    tab = visit()
    tab.press('[data-add="10"]')
    tab.wait_for_text("#count", "10")
    with psycopg.connect(demo_database) as connection:
        rows = connection.execute(tab.text("#psql").encode()).fetchall()
    assert rows == [("Room", room, {"count": 10, "note": "", "colour": "amber"})]


def test_the_python_that_the_page_shows_is_there(visit: Callable[[], Tab]) -> None:
    tab = visit()
    code = (
        "return [...document.querySelectorAll('[data-code]')].map(e => e.textContent)"
    )
    tab.wait(lambda: all(tab.run(code)), "the sources")
    add, history, primes, rows = tab.run(code)
    assert add.startswith("@callable(")
    assert "def validate_state_change(" in add
    assert add.rstrip().endswith('raise ValueError("the count changes by calling add")')
    assert "async def history(" in history
    assert primes.rstrip().endswith('stream.end({"sum": sum(found)})')
    assert "CREATE TABLE" in rows


@pytest.mark.parametrize("how", ["kill", "drain"])
def test_another_process_goes_on(visit: Callable[[], Tab], how: str) -> None:
    one, two = visit(), visit()
    one.press('[data-add="10"]')
    two.wait_for_text("#count", "10")
    before = two.text("#owner")
    two.press(f"#{how}")
    end = "goes on; the socket stayed open."
    two.wait(lambda: two.text("#owner-end").endswith(end), end)
    one.press('[data-add="1"]')
    two.wait_for_text("#count", "11")
    one.wait_for_text("#owner", two.text("#owner"))
    assert two.text("#owner") != before


def test_a_tab_says_that_the_server_is_gone_and_comes_back_with_it(
    browser: Browser, open_tab: OpenTab, database_url: str
) -> None:
    environment = {"DURABLE_DATABASE_URL": database_url}
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = str(probe.getsockname()[1])
    command = [*dev("server/demo/app.py")[:-1], port]
    with running(command, environment) as url:
        tab = Tab(browser, open_tab(f"{url}/?room=restart"))
        tab.press('[data-add="10"]')
        tab.wait_for_text("#count", "10")
    tab.wait(lambda: "Connection lost" in tab.text("#status-text"), "the bad news")
    assert tab.property('[data-add="10"]', "disabled") is True
    with running(command, environment):
        tab.run("document.getElementById('retry').click()")
        tab.wait_for_text("#status-text", "Connected")
        tab.wait_for_text("#count", "10")
        tab.press('[data-add="1"]')
        tab.wait_for_text("#count", "11")


def test_it_fits_a_telephone_and_a_dark_room(
    browser: Browser, visit: Callable[[], Tab], shots: Path
) -> None:
    tab = visit()
    tab.wait_for_text("#count", "0")
    try:
        for width in (360, 1200):
            for scheme in ("light", "dark"):
                look_like(browser, width, scheme)
                assert tab.run("return document.documentElement.scrollWidth") <= width
                (shots / f"{scheme}-{width}.png").write_bytes(picture(browser))
        light, dark = (shots / f"{s}-1200.png" for s in ("light", "dark"))
        assert light.read_bytes() != dark.read_bytes()
    finally:
        browser.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})
        browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": []})


def look_like(browser: Browser, width: int, scheme: str) -> None:
    size = {"width": width, "height": 900, "deviceScaleFactor": 1, "mobile": False}
    browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
    feature = {"name": "prefers-color-scheme", "value": scheme}
    browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": [feature]})


def picture(browser: Browser) -> bytes:
    found = browser.execute_cdp_cmd(
        "Page.captureScreenshot", {"captureBeyondViewport": True}
    )
    return base64.b64decode(found["data"])


@pytest.mark.parametrize(
    ("path", "content_type"),
    [
        ("/", "text/html; charset=utf-8"),
        ("/app.js", "text/javascript; charset=utf-8"),
        ("/agent-socket.js", "text/javascript; charset=utf-8"),
        ("/style.css", "text/css; charset=utf-8"),
        ("/icon.svg", "image/svg+xml"),
        ("/app.py", "text/plain; charset=utf-8"),
    ],
)
def test_files_have_their_content_types(
    demo_url: str, path: str, content_type: str
) -> None:
    status, headers, body = get(demo_url, path)
    assert (status, headers["content-type"]) == (200, content_type)
    assert headers["x-content-type-options"] == "nosniff"
    assert body


@pytest.mark.parametrize(
    "path",
    [
        "/nothing",
        "/__init__.py",
        "/../app.py",
        "/%2e%2e/settings.py",
        "/..%2fsettings.py",
        "//etc/passwd",
        "/app.js/",
        "/agents/room",
    ],
)
def test_unknown_paths_and_ways_out_of_the_folder_are_404(
    demo_url: str, path: str
) -> None:
    assert get(demo_url, path)[0] == 404


def test_only_get_and_head_are_answered_for_files(demo_url: str) -> None:
    assert get(demo_url, "/", "POST")[0] == 405
    status, headers, body = get(demo_url, "/style.css", "HEAD")
    assert (status, headers["content-type"]) == (200, "text/css; charset=utf-8")
    assert body == b""


def get(url: str, path: str, method: str = "GET") -> tuple[int, dict[str, str], bytes]:
    """Send a path as it is: clients that tidy it up would hide what we look for."""
    connection = http.client.HTTPConnection(urlsplit(url).netloc, timeout=10)
    try:
        connection.request(method, path)
        answer = connection.getresponse()
        headers = {name.lower(): value for name, value in answer.getheaders()}
        return answer.status, headers, answer.read()
    finally:
        connection.close()
