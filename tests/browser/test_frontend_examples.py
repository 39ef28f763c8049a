"""The page of examples/frontend: React and AgentClient from npm, in a real browser."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest

from durable.testing import databases as postgres
from tests.browser.conftest import Browser
from tests.browser.pages import Tab
from tests.examples.frontend import build
from tests.examples.serving import dev, running

pytestmark = pytest.mark.timeout(300)


@pytest.fixture(scope="module")
def page_url(chromium: tuple[str, str], postgres_server: str) -> Iterator[str]:
    build()
    with postgres.fresh_database(postgres_server) as dsn:
        environment = {"DURABLE_DATABASE_URL": dsn}
        with running(dev("examples/frontend/pages.py"), environment) as url:
            yield url


@pytest.fixture
def tabs(
    browser: Browser, open_tab: Callable[[str], str], page_url: str
) -> tuple[Tab, Tab]:
    return Tab(browser, open_tab(page_url)), Tab(browser, open_tab(page_url))


def wait_until_connected(tab: Tab) -> None:
    tab.wait(lambda: "Connected;" in tab.text("#messages"), "a connection")


def test_state_interface_shares_its_count_between_tabs(tabs: tuple[Tab, Tab]) -> None:
    one, two = tabs
    for tab in tabs:
        wait_until_connected(tab)
    two.wait_for_text("#counter", "0")
    one.press("#increment")
    one.wait_for_text("#counter", "1")
    two.wait_for_text("#counter", "1")
    two.press("#increment")
    one.wait_for_text("#counter", "2")


def test_agent_interface_hears_the_answer_to_its_inquiry(
    tabs: tuple[Tab, Tab],
) -> None:
    one, two = tabs
    wait_until_connected(one)
    one.press("#inquire")
    one.wait_for_text("#insight", '{"type": "insight", "words": 5}')
    assert two.text("#insight") == "nothing yet"


def test_chat_client_says_it_to_everybody(tabs: tuple[Tab, Tab]) -> None:
    one, two = tabs
    for tab in tabs:
        wait_until_connected(tab)
    one.write("#text", "Anybody there?")
    one.press("#say button")
    two.wait(lambda: two.texts("#heard li") == ["user123: Anybody there?"], "the words")
