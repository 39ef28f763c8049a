"""The page of examples/chat/app.py in a real browser, with a scripted model."""

from __future__ import annotations

import asyncio
import threading
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from durable.testing import databases as postgres
from durable.testing.model import Answer, ScriptedModel, ToolCall
from tests.browser.conftest import Browser
from tests.browser.pages import Tab
from tests.examples.frontend import build
from tests.examples.serving import REPOSITORY, dev, running

pytestmark = pytest.mark.timeout(300)

PAGE = REPOSITORY / "examples" / "chat" / "page"
SLOW = Answer(" ".join(str(number) for number in range(60)), pause=0.05)


@pytest.fixture(scope="module")
def model() -> Iterator[ScriptedModel]:
    """A model in a thread of its own."""
    made, ready, loop = ScriptedModel(), threading.Event(), asyncio.new_event_loop()

    async def serve() -> None:
        async with made:
            stop = asyncio.Event()
            loop.stop_serving = stop.set  # type: ignore[attr-defined]
            ready.set()
            await stop.wait()

    thread = threading.Thread(target=loop.run_until_complete, args=[serve()])
    thread.start()
    ready.wait()
    yield made
    loop.call_soon_threadsafe(loop.stop_serving)  # type: ignore[attr-defined]
    thread.join()
    loop.close()


@pytest.fixture(scope="module")
def page_url(
    chromium: tuple[str, str], postgres_server: str, model: ScriptedModel
) -> Iterator[str]:
    build(PAGE)
    with postgres.fresh_database(postgres_server) as dsn:
        environment = {"DURABLE_DATABASE_URL": dsn, "DURABLE_VAR_MODEL_URL": model.url}
        with running(dev("examples/chat/app.py"), environment) as url:
            yield url


@pytest.fixture
def open_chat(
    browser: Browser, open_tab: Callable[[str], str], page_url: str
) -> Callable[[], Tab]:
    room = uuid.uuid4().hex[:8]
    return lambda: Tab(browser, open_tab(f"{page_url}/#{room}"))


def say(tab: Tab, text: str) -> None:
    tab.wait(lambda: tab.texts("#text") != [], "the page")
    tab.write("#text", text)
    tab.press("#send")


def answers(tab: Tab) -> list[str]:
    return tab.texts(".message.assistant")


def shows(tab: Tab, selector: str, texts: list[str]) -> None:
    tab.wait(lambda: tab.texts(selector) == texts, f"{selector}: {texts}")


def ready(tab: Tab) -> bool:
    status = tab.run("return document.querySelector('.chat')?.dataset.status")
    return bool(status == "ready")


def test_a_reload_in_mid_stream_and_a_second_tab_show_all_of_it(
    open_chat: Callable[[], Tab], model: ScriptedModel
) -> None:
    tab = open_chat()
    model.play(SLOW)
    say(tab, "count")
    tab.wait(lambda: answers(tab) and "5" in answers(tab)[-1], "a few numbers")
    tab.run("location.reload()")
    other = open_chat()
    for each in (tab, other):
        shows(each, ".message.assistant", [SLOW.text])
        shows(each, ".message.user", ["count"])


def test_stopping_keeps_what_was_said_and_clearing_empties_all_tabs(
    open_chat: Callable[[], Tab], model: ScriptedModel
) -> None:
    tab, other = open_chat(), open_chat()
    model.play(SLOW)
    say(tab, "count")
    tab.wait(lambda: answers(tab) and "3" in answers(tab)[-1], "a few numbers")
    tab.press("#stop")
    tab.wait(lambda: ready(tab), "the end")
    said = answers(tab)[-1]
    assert SLOW.text.startswith(said)
    assert said != SLOW.text
    other.wait(lambda: len(answers(other)) == 1, "the answer")
    tab.press("#clear")
    for each in (tab, other):
        shows(each, ".message", [])


def test_an_order_is_allowed_by_a_person(
    open_chat: Callable[[], Tab], model: ScriptedModel, shots: Path
) -> None:
    tab = open_chat()
    model.play(
        Answer("", (ToolCall("weather", {"city": "Oslo"}),)),
        "It is 4 °C and clear in Oslo.",
        Answer("Shall I?", (ToolCall("order", {"thing": "a boat"}, "call_2"),)),
        "It is on its way.",
    )
    say(tab, "What is the weather in Oslo?")
    tab.wait(lambda: answers(tab) and "4 °C" in answers(tab)[-1], "the weather")
    say(tab, "Then order a boat.")
    tab.wait(lambda: tab.texts(".approve") == ["Allow"], "the question")
    tab.browser.save_screenshot(str(shots / "chat.png"))
    tab.press(".approve")
    tab.wait(lambda: "It is on its way." in answers(tab)[-1], "the end")
    assert "ordered: a boat" in answers(tab)[-1]
