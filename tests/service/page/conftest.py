"""A real Chromium, and a page in it: Debian's chromium and chromium-driver, which `.ci/run` installs."""

import json
import os
import shutil
import time

import pytest
from servers import make_index, running

from refcolbert import Index

FLAGS = (
    *("--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-sync"),
    *("--disable-background-networking", "--disable-component-update", "--disable-dev-shm-usage"),
)
HOSTILE = '<script>window.hit = 1</script><img src=x onerror="window.hit = 2"> & </mark> "date" \'file\''
TITLE = "Boundary layers"
WING = {"year": 2023, "title": TITLE, "tags": ["air", "lift"]}
HEBREW, ARABIC = "\u05d4\u05ea\u05d0\u05e8\u05d9\u05da", "\u0627\u0644\u062a\u0627\u0631\u064a\u062e"
DOCUMENTS = [
    {"id": "date", "text": "parse a date from a string", "metadata": {"year": 2019, "lang": "en"}},
    {"id": "file", "text": "read the file line by line", "metadata": {"year": 2021, "lang": "en"}},
    {"id": "wing", "text": "Boundary layers. The flow over a wing", "metadata": WING},
    {"id": "<b>evil</b>", "text": HOSTILE, "metadata": {"<i>key</i>": "<u>value</u>", "lang": "xx"}},
    {"id": "rtl", "text": f"{HEBREW} date \u202e {ARABIC} \U0001f600\U0001f469\u200d\U0001f4bb date"},
    {"id": "long", "text": "x" * 3000 + " date"},
    {"id": "essay", "text": f"{'x' * 150} " * 4 + "\nparse the date string here . " + "no more . " * 40},
    {"id": "empty", "text": ""},
]  # fmt: skip


@pytest.fixture(scope="session")
def chromium(tmp_path_factory):
    """The browser, one for all tests. Without it they are skipped, and fail where CI is set."""
    missing = [name for name in ("chromium", "chromedriver") if shutil.which(name) is None]
    webdriver = pytest.importorskip("selenium.webdriver") if not os.environ.get("CI") else None
    if missing and os.environ.get("CI"):
        pytest.fail(f"there is no {' and no '.join(missing)}; .ci/run installs Debian's chromium and chromium-driver")
    if missing:
        pytest.skip(f"there is no {' and no '.join(missing)}")
    if webdriver is None:
        from selenium import webdriver
    options = webdriver.ChromeOptions()
    for flag in (*FLAGS, f"--user-data-dir={tmp_path_factory.mktemp('chromium')}"):
        options.add_argument(flag)
    options.binary_location = shutil.which("chromium")
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    driver = webdriver.Chrome(options, webdriver.ChromeService(shutil.which("chromedriver")))
    yield driver
    driver.quit()


@pytest.fixture(scope="session")
def folder(encoder, tmp_path_factory):
    """A small index with texts that would break a careless page."""
    return make_index(tmp_path_factory.mktemp("page") / "notes.index", encoder, DOCUMENTS)


@pytest.fixture(scope="session")
def service(folder):
    """The real service of that index, on a free port."""
    with running(folder) as client:
        yield client


@pytest.fixture(scope="session")
def library(folder, encoder):
    """The same index, asked without the service."""
    with Index.open(folder, encoder) as index:
        yield index


class Page:
    """What a person does with the page, and what stands there."""

    def __init__(self, driver, service) -> None:
        self.driver, self.url = driver, f"http://127.0.0.1:{service.port}/"
        self.errors_expected = False
        self.view()

    def view(self, width=1000, height=900, *, dark=False, touch=False, still=False):
        """Take a screen of that size and those wishes."""
        metrics = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": touch}
        wishes = {"color-scheme": "dark" if dark else "light", "reduced-motion": "reduce" if still else "no-preference"}
        features = [{"name": f"prefers-{name}", "value": value} for name, value in wishes.items()]
        self.driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", metrics)
        self.driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": features})

    def open(self, query=""):
        """Load the page."""
        self.driver.get(self.url + query)
        return self

    def js(self, body, *arguments):
        """What a piece of JavaScript returns in the page."""
        return self.driver.execute_script(body, *arguments)

    def all(self, selector):
        """The elements."""
        return self.driver.find_elements("css selector", selector)

    def one(self, selector):
        """The only element."""
        (found,) = self.all(selector)
        return found

    def texts(self, selector):
        """What the elements hold."""
        return self.js("return [...document.querySelectorAll(arguments[0])].map(e => e.textContent)", selector)

    def wait(self, condition, *arguments):
        """Until a JavaScript condition holds."""
        deadline = time.monotonic() + 60
        while not self.js(f"return Boolean({condition})", *arguments):
            assert time.monotonic() < deadline, (
                f"it never held: {condition}\n{self.js('return document.body.innerText')}"
            )
            time.sleep(0.03)

    def type(self, text):
        """Press keys, wherever the focus is."""
        self.driver.switch_to.active_element.send_keys(text)

    def ask(self, text):
        """Type a question and wait until every result is explained."""
        self.js("document.getElementById('query').value = ''; document.getElementById('query').focus()")
        self.type(text)
        self.explained(text)
        return self

    def explained(self, text):
        """Wait until the results of this question are there and colored."""
        self.wait("document.title.startsWith(arguments[0]) && !document.querySelector('#results[aria-busy]')", text)
        self.wait("document.querySelector('article') && !document.querySelector('article:not([data-explained])')")

    def point(self, element):
        """Move the pointer onto an element."""
        from selenium.webdriver import ActionChains

        ActionChains(self.driver).move_to_element(element).perform()

    def focused(self):
        """The id of the element that has the focus, or the rank of the result."""
        return self.js("const e = document.activeElement; return e.id || e.getAttribute('aria-labelledby')")

    def end(self):
        """Nothing went wrong behind the scenes: no message in the console, no request that left this service.

        What the browser draws its own buttons with (chrome:) it has at hand.
        """
        events = [json.loads(entry["message"])["message"] for entry in self.driver.get_log("performance")]
        asked = [e["params"]["request"]["url"] for e in events if e["method"] == "Network.requestWillBeSent"]
        assert [url for url in asked if not url.startswith((self.url, "data:", "chrome:"))] == []
        said = [entry["message"] for entry in self.driver.get_log("browser")]
        assert said == [] or self.errors_expected, said


@pytest.fixture
def visit(chromium):
    """A page of a service; at the end of the test it is asked whether anything went wrong."""
    pages = []

    def open_page(service, query=""):
        for log in ("performance", "browser"):
            chromium.get_log(log)
        pages.append(Page(chromium, service))
        return pages[-1].open(query)

    yield open_page
    for page in pages:
        page.end()
    chromium.get("about:blank")


@pytest.fixture
def page(visit, service):
    """The page of the small index."""
    return visit(service)
