"""Chromium, and the demo in it."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
from selenium import webdriver

from durable.testing import databases as postgres
from tests.examples.frontend import missing
from tests.examples.serving import dev, running

FLAGS = (
    "--headless=new",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--window-size=1200,1000",
)

Browser = webdriver.Chrome


@pytest.fixture(scope="session")
def chromium() -> tuple[str, str]:
    """The programs: Chromium and the driver that belongs to it."""
    browser = shutil.which("chromium") or shutil.which("chromium-browser")
    driver = shutil.which("chromedriver")
    if browser is None or driver is None:
        missing("Chromium with chromedriver")
    return browser, driver


@pytest.fixture(scope="session")
def browser(chromium: tuple[str, str]) -> Iterator[Browser]:
    """One Chromium for all tests, with a fresh profile; tests open their own tabs."""
    options = webdriver.ChromeOptions()
    options.binary_location = chromium[0]
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    with ExitStack() as stack:
        profile = tempfile.mkdtemp(prefix="chromium-")
        stack.callback(shutil.rmtree, profile, ignore_errors=True)
        for flag in (*FLAGS, f"--user-data-dir={profile}"):
            options.add_argument(flag)
        service = webdriver.ChromeService(chromium[1])
        driver = webdriver.Chrome(options=options, service=service)
        stack.callback(driver.quit)
        yield driver


@pytest.fixture
def open_tab(browser: Browser) -> Iterator[Callable[[str], str]]:
    """Opens a URL in a new tab and gives its handle; all are closed afterwards."""
    first = browser.current_window_handle
    opened: list[str] = []

    def open_tab(url: str) -> str:
        browser.switch_to.new_window("tab")
        opened.append(browser.current_window_handle)
        browser.get(url)
        return opened[-1]

    yield open_tab
    for handle in set(opened).intersection(browser.window_handles):
        browser.switch_to.window(handle)
        browser.close()
    browser.switch_to.window(first)


@pytest.fixture(scope="session")
def demo_database(postgres_server: str) -> Iterator[str]:
    """The demo's database."""
    with postgres.fresh_database(postgres_server) as dsn:
        yield dsn


@pytest.fixture(scope="session")
def demo_url(demo_database: str) -> Iterator[str]:
    """The demo, served as ``make run`` does."""
    environment = {"DURABLE_DATABASE_URL": demo_database}
    with running(dev("server/demo/app.py"), environment) as url:
        yield url


@pytest.fixture(scope="session")
def shots() -> Path:
    """Where a test may leave pictures of what it saw."""
    path = Path(os.environ.get("BROWSER_SHOTS") or tempfile.mkdtemp(prefix="shots-"))
    path.mkdir(parents=True, exist_ok=True)
    return path
