"""Markdown: front matter as metadata, and one section for each heading, by the CommonMark parser markdown-it-py.

Only headings at the top level cut: one inside a quotation, a list or a code block is part of its section.
"""

import math
import re
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

__all__ = ["Section", "front_matter", "sections"]

LINE_END = re.compile(r"\r\n?|\n")  # what ends a line in CommonMark
FRONT_MATTER = re.compile(r"\A---[ \t]*\n(.*?)^(?:---|\.\.\.)[ \t]*(?:\n|\Z)", re.DOTALL | re.MULTILINE)


@dataclass(frozen=True, slots=True, kw_only=True)
class Section:
    """What stands below one heading and before the next one."""

    path: tuple[str, ...]  # the headings above it and its own; () for what stands before the first one
    anchor: str  # of its heading in a page made of this text, as GitHub has it; "" before the first heading
    body: str


@dataclass(frozen=True, slots=True)
class _Heading:
    level: int  # 0 where the text begins and where it ends
    title: str
    first: int  # its first line
    after: int  # the line after it


def front_matter(text: str) -> tuple[dict[str, Any], str]:
    r"""The YAML mapping between `---` lines at the very beginning, as plain JSON, and the text behind it.

    What is no such mapping, or uses YAML's aliases, is text like any other. Lines of the text end in "\n".
    """
    import yaml  # only whoever reads Markdown waits for the two parsers

    text = LINE_END.sub("\n", text)
    found = FRONT_MATTER.match(text)
    if found is None:
        return {}, text
    try:
        aliases = any(isinstance(event, yaml.AliasEvent) for event in yaml.parse(found[1], yaml.SafeLoader))
        fields = None if aliases else yaml.safe_load(found[1])
    except (yaml.YAMLError, ValueError, RecursionError):  # ValueError: a date that is none
        fields = None
    if not isinstance(fields, dict):
        return {}, text
    return {str(key): _plain(value) for key, value in fields.items()}, text[found.end() :]


def sections(text: str) -> list[Section]:
    """The sections of a text in order. One in which nothing stands is left out, unless nothing deeper follows in it."""
    lines = LINE_END.split(text)
    headings = [_Heading(0, "", 0, 0), *_headings(text), _Heading(0, "", len(lines), len(lines))]
    found: list[Section] = []
    above: list[_Heading] = []
    anchors: set[str] = set()
    for heading, following in pairwise(headings):
        above = [*(outer for outer in above if outer.level < heading.level), heading]
        anchor = _anchor(heading.title, anchors) if heading.level else ""
        body = "\n".join(lines[heading.after : following.first]).strip("\n")
        if body.strip() or (heading.level and following.level <= heading.level):
            path = tuple(outer.title for outer in above if outer.title)
            found.append(Section(path=path, anchor=anchor, body=body))
    return found


def _headings(text: str) -> list[_Heading]:
    from markdown_it import MarkdownIt

    parser = MarkdownIt("commonmark")
    tokens = parser.parse(text)
    return [
        _Heading(int(token.tag[1:]), _words(content.children or []), *token.map)
        for token, content in pairwise(tokens)
        if token.type == "heading_open" and token.level == 0 and token.map
    ]


def _words(inline: list[Any]) -> str:
    """A heading's text without its markup."""
    text = "".join(
        part.content if part.type in ("text", "code_inline") else " " * (part.type == "softbreak") for part in inline
    )
    return " ".join(text.split())


def _anchor(title: str, taken: set[str]) -> str:
    """Lower case, punctuation gone, hyphens for spaces; a number behind it where that is taken."""
    base = re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") or "section"
    anchor, count = base, 0
    while anchor in taken:
        count += 1
        anchor = f"{base}-{count}"
    taken.add(anchor)
    return anchor


def _plain(value: Any) -> Any:
    """A YAML value as JSON can hold it: dates and whatever else is strange as text."""
    if isinstance(value, dict):
        return {str(key): _plain(inner) for key, inner in value.items()}
    if isinstance(value, list):
        return [_plain(inner) for inner in value]
    return value if value is None or isinstance(value, bool | int | str) else _number_or_text(value)


def _number_or_text(value: Any) -> float | str:
    return value if isinstance(value, float) and math.isfinite(value) else str(value)
