"""One server on the built-in model for all tests, and a browser."""

import os
import shutil

import pytest
from playwright.sync_api import sync_playwright

from program import TARGET, Proxy, Server

KEY = "a-key-for-tests"


@pytest.fixture(scope="session")
def server():
    server = Server()
    yield server
    server.stop()


@pytest.fixture(scope="session")
def server_with_key(tmp_path_factory):
    file = tmp_path_factory.mktemp("keys") / "keys"
    file.write_text(KEY + "\n")
    server = Server("--api-key-file", str(file))
    yield server
    server.stop()


@pytest.fixture
def proxy(server):
    proxy = Proxy(server)
    yield proxy
    proxy.stop()


@pytest.fixture(scope="session")
def browser():
    with sync_playwright() as playwright:
        # Chromium's own sandbox needs a user other than root.
        options = ["--no-sandbox"] if os.geteuid() == 0 else []
        browser = playwright.chromium.launch(executable_path=shutil.which("chromium"), args=options)
        yield browser
        browser.close()


class Tab:
    """A tab, with what the browser's console has said."""

    def __init__(self, context, url):
        self.page = context.new_page()
        # A loaded machine is slow.
        self.page.set_default_timeout(60_000)
        self.url = url
        self.errors = []
        self.page.on("console", lambda message: message.type in ("error", "warning") and self.errors.append(message.text))
        self.page.on("pageerror", lambda error: self.errors.append(str(error)))
        self.open()

    def open(self):
        self.page.goto(self.url)
        self.page.wait_for_selector("#model-0:enabled")

    def ask(self, question):
        """Asks, and waits for the end of the answer."""
        self.page.fill("#question", question)
        self.page.press("#question", "Enter")
        self.wait()

    def wait(self):
        self.page.wait_for_selector("#stop", state="hidden")
        # Markdown is shown as HTML a moment later.
        self.page.wait_for_selector(".text .tail", state="detached")

    def texts(self, selector):
        return self.page.locator(selector).all_inner_texts()


@pytest.fixture
def tab(browser):
    """Opens tabs. At the end there must be no error in their consoles, except for those that a test takes out."""
    contexts, tabs = [], []

    def open_tab(url, **options):
        contexts.append(browser.new_context(**{"viewport": {"width": 1280, "height": 800}, **options}))
        tabs.append(Tab(contexts[-1], url))
        return tabs[-1]

    yield open_tab
    errors = [error for tab in tabs for error in tab.errors]
    for context in contexts:
        context.close()
    assert not errors, errors


@pytest.fixture(scope="session")
def screenshots():
    """The folder for pictures of the page, to look at."""
    folder = TARGET / "page"
    folder.mkdir(parents=True, exist_ok=True)
    return folder
