"""A real headless Chromium over Dagster's UI, found by what a person reads: names of buttons, links and headings.

Nothing waits for a time: every step polls for what it needs, as long as a busy machine may take.
"""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, TypeVar

from selenium.common.exceptions import StaleElementReferenceException, WebDriverException
from selenium.webdriver import Chrome, ChromeOptions
from selenium.webdriver.chrome.service import Service
from selenium.webdriver.common.by import By
from selenium.webdriver.remote.webelement import WebElement
from selenium.webdriver.support.ui import WebDriverWait

Found = TypeVar("Found")

PATIENCE = 240.0
"""Seconds for one step: Dagster starts a process for each run, and all cores may be busy."""

SWITCHES = (
    "--headless=new",
    "--disable-gpu",
    "--disable-quic",
    "--disable-dev-shm-usage",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--hide-scrollbars",
)


def missing() -> str | None:
    """Why there is no browser to test with, and what to install; ``None`` where there is one."""
    lacking = [name for name in ("chromedriver",) if shutil.which(name) is None]
    lacking += [] if _chromium() else ["chromium"]
    if not lacking:
        return None
    return f"{' and '.join(lacking)} not on PATH: install them (Debian: apt-get install chromium chromium-driver)"


def _chromium() -> str | None:
    return next(
        (path for name in ("chromium", "chromium-browser", "google-chrome") if (path := shutil.which(name))), None
    )


class Browser:
    """One window on ``base``, Dagster's address."""

    def __init__(self, driver: Chrome, base: str) -> None:
        self.driver = driver
        self.base = base

    def open(self, path: str) -> None:
        self.driver.get(self.base + path)

    def wait(self, what: Callable[[], Found], hint: str) -> Found:
        """Poll until ``what`` gives something true; then give that. Fails with what the page shows."""

        def poll(_driver: Any) -> Any:
            try:
                return what()
            except StaleElementReferenceException:
                return None

        try:
            found: Found = WebDriverWait(self.driver, PATIENCE, poll_frequency=0.2).until(poll)
        except WebDriverException as error:
            raise AssertionError(f"{hint}: not there after {PATIENCE:.0f} s; the page shows:\n{self.text()}") from error
        return found

    def text(self) -> str:
        """All that the page shows."""
        return str(self.driver.execute_script("return document.body.innerText"))

    def sees(self, *texts: str) -> None:
        """Wait until the page shows all of these."""
        self.wait(lambda: all(text in self.text() for text in texts), f"the texts {texts}")

    def settle(self) -> None:
        """Wait until the page has been the same for a while: all is loaded, and nothing moves any more."""
        seen: list[Any] = []

        def quiet() -> bool:
            script = "return [document.body.innerText, document.querySelectorAll('*').length, document.readyState]"
            seen.append(self.driver.execute_script(script))
            return len(seen) > 10 and all(item == seen[-1] for item in seen[-10:])

        self.wait(quiet, "a page that keeps still")

    def all(self, xpath: str) -> list[WebElement]:
        """What matches and is shown."""
        return [item for item in self.driver.find_elements(By.XPATH, xpath) if item.is_displayed()]

    def one(self, xpath: str) -> WebElement:
        """The first that matches, once it is shown."""
        return self.wait(lambda: (self.all(xpath) or [None])[0], xpath)

    def click(self, xpath: str) -> None:
        """Click the first that matches, as soon as nothing covers it."""

        def try_it() -> bool:
            found = [item for item in self.all(xpath) if item.is_enabled()]
            if not found:
                return False
            self.driver.execute_script("arguments[0].scrollIntoView({block: 'center'})", found[0])
            try:
                found[0].click()
            except StaleElementReferenceException:
                raise
            except WebDriverException:  # still covered by what is on its way out
                return False
            return True

        self.wait(try_it, f"a click on {xpath}")

    def click_button(self, text: str) -> None:
        """Click the button whose words begin with ``text``."""
        self.click(f"//button[starts-with(normalize-space(.), '{text}')]")

    def image_width(self) -> int:
        """The width in pixels of the first inline image, once the browser has drawn it."""
        script = """
            const found = [...document.images].filter(image => image.src.startsWith('data:image/svg+xml'));
            return found.length && found[0].complete ? found[0].naturalWidth : 0;
        """
        return self.wait(lambda: int(self.driver.execute_script(script)), "an inline image")


@contextmanager
def browser(base: str, width: int = 1500, height: int = 1000) -> Iterator[Browser]:
    """A new Chromium with a profile of its own; nothing of it is left."""
    with tempfile.TemporaryDirectory(prefix="proxbox-browser-", ignore_cleanup_errors=True) as profile:
        options = ChromeOptions()
        options.binary_location = str(_chromium())
        for switch in (*SWITCHES, f"--user-data-dir={profile}", f"--window-size={width},{height}"):
            options.add_argument(switch)
        if os.geteuid() == 0:  # Chromium's sandbox refuses to run as root
            options.add_argument("--no-sandbox")
        driver = Chrome(options=options, service=Service(shutil.which("chromedriver")))
        try:
            driver.set_page_load_timeout(PATIENCE)
            yield Browser(driver, base)
        finally:
            driver.quit()
