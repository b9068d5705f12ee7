"""HTML files and PDF files: the text that a person reads in them, in sections."""

import re
from io import BytesIO
from typing import BinaryIO

from ..errors import InvalidInput
from .markdown import Heading, Section, nested

__all__ = ["html_sections", "pdf_pages"]

# Not `head`, which has no other text: HTML may omit its end, and the parser then puts the body into it.
NOT_TEXT = ("noscript", "nav", "svg", "title")
HEADINGS = ("h1", "h2", "h3", "h4", "h5", "h6")
QUOTES = ("blockquote", "li", "table")  # a heading in these begins no section, as in Markdown
BLOCKS = (
    *(*HEADINGS, "p", "div", "section", "article", "header", "footer", "aside", "figure"),
    *("li", "dt", "dd", "tr", "td", "th", "pre", "blockquote", "figcaption", "table", "ul", "ol", "dl"),
)


def html_sections(data: bytes, name: str) -> tuple[str, list[Section]]:
    """Return title and sections of an HTML page: its only `main` element, else all of it; no scripts and navigation.

    A block such as a paragraph or a row of a table begins a line. The title is the `title` element, without what that
    adds to the first heading. Bytes that are not UTF-8 are read in the encoding that the page declares.
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
    title, top = (_line(tag.get_text()) if (tag := page.find(kind)) else "" for kind in ("title", "h1"))
    parts: list[tuple[Tag | None, list[str]]] = [(None, [])]  # headings with the pieces of text below them
    before = None
    filled = [tag for tag in page.find_all("main") if tag.get_text(strip=True)]
    for node in (filled[0] if len(filled) == 1 else page).descendants:
        # Scripts, styles and comments are of other classes. Everything else that is not text is a tag.
        if type(node) is NavigableString:
            above = list(node.parents)
            names = {tag.name for tag in above}
            if not names.isdisjoint(NOT_TEXT):
                continue
            heading = next((tag for tag in above if tag.name in HEADINGS), None)
            if heading is not None and names.isdisjoint(QUOTES):
                if heading is not parts[-1][0]:
                    parts.append((heading, []))
                continue
            block = next((tag for tag in above if tag.name in BLOCKS), page)
            parts[-1][1].extend(["\n" * (block is not before), node])
            before = block
        elif isinstance(node, Tag) and node.name in ("br", "hr"):
            parts[-1][1].append("\n")
    headings = [Heading(0, "", _lines(parts[0][1]))]
    for tag, pieces in parts[1:]:
        if tag is not None:
            headings.append(Heading(int(tag.name[1]), _line(tag.get_text()), _lines(pieces), str(tag.get("id") or "")))
    return top if top and top in title else title or top, nested(headings)


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


def _line(text: str) -> str:
    """Return a text in one line, without the sign at its end that links a heading to itself."""
    return " ".join(text.split()).rstrip(" \u00b6")


def _lines(pieces: list[str]) -> str:
    lines = "".join(pieces).split("\n")
    return "\n".join(words for line in lines if (words := " ".join(line.split())))


def _utf8(data: bytes) -> str | bytes:
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError:
        return data
