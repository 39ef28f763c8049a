"""The page of examples/chat/app.py in a real browser, with a scripted model."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from durable.testing import databases as postgres
from durable.testing.model import Answer, ScriptedModel, ToolCall
from tests.browser.conftest import Browser
from tests.browser.pages import Tab
from tests.examples.frontend import build
from tests.examples.model import in_thread
from tests.examples.serving import REPOSITORY, dev, running

pytestmark = pytest.mark.timeout(300)

PAGE = REPOSITORY / "examples" / "chat" / "page"
NUMBERS = [str(number) for number in range(60)]
SLOW = Answer(" ".join(NUMBERS), pause=0.05)
# What has been said when the page is loaded again.
HALF = 20


class Model(ScriptedModel):
    """It has a thread of its own, in which what it says is let out."""

    loop: asyncio.AbstractEventLoop

    def let_out(self, hold: asyncio.Semaphore, pieces: int) -> None:
        for _ in range(pieces):
            self.loop.call_soon_threadsafe(hold.release)


@pytest.fixture(scope="module")
def model() -> Iterator[Model]:
    made = Model()
    with in_thread(made) as made.loop:
        yield made


@pytest.fixture(scope="module")
def page_url(
    chromium: tuple[str, str], postgres_server: str, model: Model
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


def wait_until_ready(tab: Tab, is_ready: bool) -> None:
    """Wait until the page says that no answer streams, or that one does."""
    wanted = "ready" if is_ready else "busy"
    status = "return document.querySelector('.chat')?.dataset.status"
    tab.wait(lambda: tab.run(status) == wanted, wanted)


def test_a_reload_in_mid_stream_and_a_second_tab_show_all_of_it(
    open_chat: Callable[[], Tab], model: Model
) -> None:
    tab = open_chat()
    hold = asyncio.Semaphore(0)
    model.play(Answer(SLOW.text, hold=hold))
    say(tab, "count")
    model.let_out(hold, HALF)
    so_far = " ".join([*NUMBERS[:HALF], ""])
    shows(tab, ".message.assistant", [so_far])
    tab.run("document.body.dataset.before = '1'; location.reload()")
    tab.wait(lambda: not tab.run("return document.body.dataset.before"), "the reload")
    other = open_chat()
    for each in (tab, other):
        # The model says no more: this is what the stream had, and it goes on.
        shows(each, ".message.assistant", [so_far])
        wait_until_ready(each, False)
    model.let_out(hold, len(NUMBERS) - HALF)
    for each in (tab, other):
        shows(each, ".message.assistant", [SLOW.text])
        shows(each, ".message.user", ["count"])
        wait_until_ready(each, True)
    assert answers(tab) == answers(other) == [SLOW.text]


def test_stopping_keeps_what_was_said_and_clearing_empties_all_tabs(
    open_chat: Callable[[], Tab], model: Model
) -> None:
    tab, other = open_chat(), open_chat()
    model.play(SLOW)
    say(tab, "count")
    tab.wait(lambda: answers(tab) and "3" in answers(tab)[-1], "a few numbers")
    tab.press("#stop")
    wait_until_ready(tab, True)
    said = answers(tab)[-1]
    assert SLOW.text.startswith(said)
    assert said != SLOW.text
    other.wait(lambda: len(answers(other)) == 1, "the answer")
    tab.press("#clear")
    for each in (tab, other):
        shows(each, ".message", [])


def test_an_order_is_allowed_by_a_person(
    open_chat: Callable[[], Tab], model: Model, shots: Path
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


def test_an_order_that_is_not_allowed_is_not_made_and_the_talk_goes_on(
    open_chat: Callable[[], Tab], model: Model
) -> None:
    tab = open_chat()
    order = ToolCall("order", {"thing": "a boat"})
    model.play(Answer("Shall I?", (order,)), "Then not.", "Four.")
    say(tab, "Order a boat.")
    tab.wait(lambda: tab.texts(".deny") != [], "the question")
    tab.press(".deny")
    tab.wait(lambda: "Then not." in answers(tab)[-1], "the end")
    assert "not allowed" in answers(tab)[-1]
    assert "ordered" not in answers(tab)[-1]
    say(tab, "Two and two?")
    tab.wait(lambda: answers(tab)[-1] == "Four.", "the next answer")
