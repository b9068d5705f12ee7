"""The site: it builds without a warning, loads nothing from elsewhere, and has every public name."""

import inspect
import os
import posixpath
import re
import shutil
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit

import pytest

import refcolbert
from refcolbert import definition, errors
from refcolbert.storage import format as bytes_on_disk

DOCS = Path(__file__).parents[2] / "docs"
LOADS = {"script": "src", "img": "src", "iframe": "src", "source": "src", "object": "data", "embed": "src"}


class Page(HTMLParser):
    """What a page loads, where it leads, what can be led to, and its text."""

    def __init__(self, path) -> None:
        super().__init__()
        self.loads, self.leads, self.anchors, self.words = [], [], set(), []
        self.feed(path.read_text())
        self.text = " ".join("".join(self.words).split())

    def handle_starttag(self, tag, attributes):
        """Note addresses and anchors."""
        found = dict(attributes)
        self.anchors.add(found.get("id"))
        if tag == "a":
            self.leads.append(found.get("href") or "")
        if tag == "link" and found.get("rel") not in ("index", "search", "next", "prev"):
            self.loads.append(found["href"])
        if tag in LOADS and LOADS[tag] in found:
            self.loads.append(found[LOADS[tag]])

    def handle_data(self, data):
        """Note text."""
        self.words.append(data)


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    """The folder of the built site."""
    out = tmp_path_factory.mktemp("site")
    command = [sys.executable, "-m", "sphinx", "-W", "--keep-going", "--quiet", "-b", "html", str(DOCS), str(out)]
    done = subprocess.run(command, capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")
    return out


@pytest.fixture(scope="module")
def pages(site):
    """Every page by its path in the site."""
    return {path.relative_to(site).as_posix(): Page(path) for path in site.rglob("*.html")}


def test_every_page_has_become_one(pages):
    """Each Markdown file is a page, and each is in the navigation of the first one."""
    names = {path.relative_to(DOCS).with_suffix(".html").as_posix() for path in DOCS.rglob("*.md")}
    assert names <= set(pages)
    assert names - {"index.html"} <= {lead.partition("#")[0] for lead in pages["index.html"].leads}


def test_nothing_is_loaded_from_elsewhere(site, pages):
    """Scripts, styles, fonts and pictures lie in the site: it works without a network."""
    for name, page in pages.items():
        for address in page.loads:
            target = site / Path(name).parent / unquote(urlsplit(address).path)
            assert not urlsplit(address).netloc, f"{name} loads {address}"
            assert address.startswith("data:") or target.exists(), f"{name} loads {address}"
    for style in site.rglob("*.css"):
        far = re.findall(r"(?:@import\s*|url\()['\"]?((?:https?:)?//[^'\")]+)", style.read_text())
        assert not far, f"{style.name} loads {far}"


def test_every_link_leads_somewhere(pages):
    """A link inside the site has a page, and its anchor is on that page."""
    for name, page in pages.items():
        for lead in page.leads:
            address = urlsplit(lead)
            if address.scheme or address.netloc or lead.startswith("_downloads"):
                continue
            target = posixpath.normpath(posixpath.join(posixpath.dirname(name), unquote(address.path)))
            target = target if address.path else name
            assert target in pages, f"{name} leads to {lead}"
            if not name.startswith("_modules/"):  # a source leads back by one name, an object may be shown by another
                assert not address.fragment or unquote(address.fragment) in pages[target].anchors, f"{name}: {lead}"


def public():
    """Every name that users may use, with its module."""
    for name in refcolbert.__all__:
        if name not in ("errors", "__version__"):
            yield f"refcolbert.{name}"
    yield from (f"refcolbert.errors.{name}" for name in errors.__all__)
    yield from (f"refcolbert.definition.{name}" for name in definition.__all__)
    for kind in ("Index", "Encoder", "Ragged", "Explanation", "EncodingSpec"):
        members = vars(getattr(refcolbert, kind))
        callables = [n for n, m in members.items() if callable(m) or isinstance(m, (classmethod, property))]
        yield from (f"refcolbert.{kind}.{name}" for name in callables if not name.startswith("_"))


def test_every_public_name_is_described(pages):
    """The API pages have an entry for each public class, function, method and error."""
    anchors = pages["api.html"].anchors | pages["definition.html"].anchors
    assert not [name for name in public() if name not in anchors]


def test_the_format_is_its_docstring(pages):
    """Every line of the specification stands on the page of the format, as it is."""
    lines = [" ".join(line.replace("`", "").split()) for line in inspect.getdoc(bytes_on_disk).splitlines()]
    assert len(lines) > 60
    shown = pages["format.html"].text.replace("`", "")
    assert not [line for line in lines if line not in shown]


MEASURE = "onload = () => document.title = `${document.documentElement.scrollWidth} of ${innerWidth}`"


@pytest.mark.parametrize("width", [800, 1360, 1440, 1600])
def test_a_page_of_wide_tables_does_not_scroll_sideways(site, width):
    """The tables scroll by themselves, the page does not, beside one sidebar or two."""
    if shutil.which("chromium") is None:
        assert not os.environ.get("CI"), "there is no chromium; .ci/run installs it"
        pytest.skip("there is no chromium")
    probe = site / "probe.htm"
    probe.write_text((site / "comparison.html").read_text().replace("</head>", f"<script>{MEASURE}</script></head>"))
    command = ["chromium", "--headless", "--no-sandbox", "--disable-gpu", "--hide-scrollbars", "--dump-dom"]
    done = subprocess.run([*command, f"--window-size={width},900", probe.as_uri()], capture_output=True, text=True)
    assert f"<title>{width} of {width}</title>" in done.stdout
