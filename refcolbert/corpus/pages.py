"""HTML files and PDF files: the text that a person reads in them."""

import re
from io import BytesIO
from typing import BinaryIO

from ..errors import InvalidInput
from .markdown import Section

__all__ = ["html_text", "pdf_pages"]

NOT_TEXT = ("noscript", "nav", "svg", "head")
BLOCKS = (
    *("h1", "h2", "h3", "h4", "h5", "h6", "p", "div", "section", "article", "header", "footer", "aside", "figure"),
    *("li", "dt", "dd", "tr", "td", "th", "pre", "blockquote", "figcaption", "table", "ul", "ol", "dl"),
)


def html_text(data: bytes, name: str) -> tuple[str, str]:
    """Return title and text of an HTML page: its `main` element, else all of it; without scripts and navigation.

    A block such as a heading, a paragraph or a row of a table begins a line. The title is the `title` element, else
    the first heading. Bytes that are not UTF-8 are read in the encoding that the page declares.
    """
    from bs4 import BeautifulSoup
    from bs4.element import NavigableString, Tag
    from bs4.exceptions import ParserRejectedMarkup

    try:
        page = BeautifulSoup(_utf8(data), "html.parser")
    except (ParserRejectedMarkup, RecursionError) as error:
        raise InvalidInput(f"{name}: not HTML: {error}; convert or remove the file") from error
    if page.contains_replacement_characters:
        raise InvalidInput(f"{name}: expected UTF-8 or the declared encoding, found other bytes; convert it to UTF-8")
    heading = page.find("title") or page.find("h1")
    title = " ".join(heading.get_text().split()) if heading else ""
    pieces: list[str] = []
    before = None
    for node in (page.find("main") or page.find("body") or page).descendants:
        # Scripts, styles and comments are of other classes. Everything else that is not text is a tag.
        if type(node) is NavigableString:
            above = list(node.parents)
            block = next((tag for tag in above if tag.name in BLOCKS), page)
            if not any(tag.name in NOT_TEXT for tag in above):
                pieces += ["\n" * (block is not before), node]
                before = block
        elif isinstance(node, Tag) and node.name in ("br", "hr"):
            pieces.append("\n")
    lines = "".join(pieces).split("\n")
    return title, "\n".join(words for line in lines if (words := " ".join(line.split())))


def pdf_pages(stream: BinaryIO, name: str) -> tuple[str, list[Section]]:
    """Return the title of a PDF file and a section per page with text. Raises `InvalidInput` if it cannot be read."""
    from pypdf import PdfReader

    try:
        reader = PdfReader(BytesIO(stream.read()))
        title = " ".join(str((reader.metadata and reader.metadata.title) or "").split())
        texts = [page.extract_text() for page in reader.pages]
    except Exception as error:  # pypdf raises errors of many kinds for damaged and encrypted files
        raise InvalidInput(f"{name}: not a PDF file that can be read: {error}; repair or decrypt it") from error
    return title, [
        Section(path=(), anchor=f"page={number}", body=body, metadata={"page": number})
        for number, text in enumerate(texts, start=1)
        # Fonts without a table of characters can give surrogates, which no encoding has.
        if (body := re.sub("[\ud800-\udfff\0]", "\ufffd", text).strip())
    ]


def _utf8(data: bytes) -> str | bytes:
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError:
        return data
