"""What a test does on a page: find, press, read, wait until it says something."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from selenium import webdriver
from selenium.common.exceptions import StaleElementReferenceException, TimeoutException
from selenium.webdriver.common.by import By
from selenium.webdriver.support.wait import WebDriverWait

LIMIT = 30


class Tab:
    """One tab; every method brings it to the front first."""

    def __init__(self, browser: webdriver.Chrome, handle: str) -> None:
        self.browser = browser
        self.handle = handle

    def _front(self) -> webdriver.Chrome:
        self.browser.switch_to.window(self.handle)
        return self.browser

    def press(self, selector: str) -> None:
        """Click, once the control may be used."""
        self.wait(lambda: self.property(selector, "disabled") is False, selector)
        self._front().find_element(By.CSS_SELECTOR, selector).click()

    def write(self, selector: str, text: str) -> None:
        """Replace what stands in a field."""
        field = self._front().find_element(By.CSS_SELECTOR, selector)
        field.clear()
        field.send_keys(text)

    def choose(self, selector: str, value: str) -> None:
        """Pick an option of a select."""
        option = f'{selector} option[value="{value}"]'
        self._front().find_element(By.CSS_SELECTOR, option).click()

    def text(self, selector: str) -> str:
        """The visible text of an element."""
        return self._front().find_element(By.CSS_SELECTOR, selector).text

    def texts(self, selector: str) -> list[str]:
        """The visible texts of all elements that match."""
        found = self._front().find_elements(By.CSS_SELECTOR, selector)
        return [element.text for element in found]

    def property(self, selector: str, name: str) -> Any:
        """A property of an element, as scripts see it."""
        element = self._front().find_element(By.CSS_SELECTOR, selector)
        return element.get_property(name)

    def run(self, script: str) -> Any:
        """Run a script and return its value."""
        return self._front().execute_script(script)

    def close(self) -> None:
        """Close this tab."""
        self._front().close()

    def wait(self, condition: Callable[[], object], what: str) -> None:
        """Wait until a condition holds; say what was waited for if it never does."""

        def holds(_: object) -> bool:
            try:
                return bool(condition())
            except StaleElementReferenceException:
                return False  # redrawn while we looked

        try:
            WebDriverWait(self.browser, LIMIT, poll_frequency=0.05).until(holds)
        except TimeoutException:
            page = self.text("body")
            raise AssertionError(f"waited for {what}; the page says:\n{page}") from None

    def wait_for_text(self, selector: str, text: str) -> None:
        """Wait until an element says just this."""
        self.wait(lambda: self.text(selector) == text, f"{selector} = {text!r}")
