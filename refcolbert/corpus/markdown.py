"""Markdown: front matter as metadata, and one section per heading, by the CommonMark parser markdown-it-py.

Only headings at the top level begin a section. A heading inside a quotation, a list or a code block does not.
"""

import math
import re
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any

__all__ = ["Heading", "Section", "front_matter", "nested", "sections"]

LINE_END = re.compile(r"\r\n?|\n")  # the ends of a line in CommonMark
FRONT_MATTER = re.compile(r"\A---[ \t]*\n(.*?)^(?:---|\.\.\.)[ \t]*(?:\n|\Z)", re.DOTALL | re.MULTILINE)


@dataclass(frozen=True, slots=True, kw_only=True)
class Section:
    """A part of a file. In Markdown and HTML it is the text between one heading and the next one."""

    path: tuple[str, ...]  # the headings above it and its own; () before the first heading
    anchor: str  # of its heading in a page made of this text, as on GitHub; "" before the first heading
    body: str
    metadata: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Heading:
    """A heading and the text up to the next one."""

    level: int  # 1 to 6; 0 for the beginning and the end of the text
    title: str
    body: str
    anchor: str = ""  # "": one is made of the title


def front_matter(text: str) -> tuple[dict[str, Any], str]:
    r"""Return the YAML mapping between `---` lines at the very beginning, as plain JSON, and the text behind it.

    Anything else at the beginning is text, also a mapping with YAML aliases. Lines of the text end in "\n".
    An example:

        >>> front_matter("---\ntitle: Cats\n---\nCats sleep.\n")
        ({'title': 'Cats'}, 'Cats sleep.\n')
    """
    # Imported here, as markdown_it below: only readers of Markdown pay for the two parsers.
    import yaml

    text = LINE_END.sub("\n", text)
    block = FRONT_MATTER.match(text)
    if block is None:
        return {}, text
    try:
        # A few aliases of aliases expand to gigabytes.
        aliases = any(isinstance(event, yaml.AliasEvent) for event in yaml.parse(block[1], yaml.SafeLoader))
        fields = None if aliases else yaml.safe_load(block[1])
    # ValueError: a date that does not exist, such as 2024-99-99.
    except (yaml.YAMLError, ValueError, RecursionError):
        fields = None
    if not isinstance(fields, dict):
        return {}, text
    return {str(key): _plain(value) for key, value in fields.items()}, text[block.end() :]


def sections(text: str) -> list[Section]:
    r"""Return the sections of a text in order.

    An empty section is left out if a deeper one follows: its heading is in the path of that one. An example:

        >>> for section in sections("# Pets\n## Cats\nCats sleep.\n## Dogs\nDogs bark.\n"):
        ...     print(section.path, section.anchor, section.body)
        ('Pets', 'Cats') cats Cats sleep.
        ('Pets', 'Dogs') dogs Dogs bark.
    """
    lines = LINE_END.split(text)
    found = [(0, "", 0, 0), *_headings(text), (0, "", len(lines), len(lines))]
    return nested(
        [
            Heading(level, title, "\n".join(lines[after:end]).strip("\n"))
            for (level, title, _, after), (_, _, end, _) in pairwise(found)
        ]
    )


def nested(headings: list[Heading]) -> list[Section]:
    """Return the sections of a text's headings in order; the first one is its beginning, of level 0."""
    parts: list[Section] = []
    above: list[Heading] = []
    anchors: set[str] = set()
    for heading, following in pairwise([*headings, Heading(0, "", "")]):
        above = [*(outer for outer in above if outer.level < heading.level), heading]
        anchor = _anchor(heading, anchors) if heading.level else ""
        if heading.body.strip() or (heading.level and following.level <= heading.level):
            path = tuple(outer.title for outer in above if outer.title)
            parts.append(Section(path=path, anchor=anchor, body=heading.body))
    return parts


def _headings(text: str) -> list[tuple[int, str, int, int]]:
    """Return (level, title, first line, line after it) of each heading."""
    from markdown_it import MarkdownIt

    parser = MarkdownIt("commonmark")
    tokens = parser.parse(text)
    return [
        (int(token.tag[1:]), _words(content.children or []), token.map[0], token.map[1])
        for token, content in pairwise(tokens)
        if token.type == "heading_open" and token.level == 0 and token.map
    ]


def _words(inline: list[Any]) -> str:
    """Return a heading's text without its markup."""
    text = "".join(
        part.content if part.type in ("text", "code_inline") else " " * (part.type == "softbreak") for part in inline
    )
    return " ".join(text.split())


def _anchor(heading: Heading, taken: set[str]) -> str:
    """Return the anchor of a heading: lower case, no punctuation, hyphens for spaces, a number if it is taken."""
    base = heading.anchor or re.sub(r"[^\w\- ]", "", heading.title.lower()).replace(" ", "-") or "section"
    anchor, count = base, 0
    while anchor in taken:
        count += 1
        anchor = f"{base}-{count}"
    taken.add(anchor)
    return anchor


def _plain(value: Any) -> Any:
    """Return a YAML value as plain JSON: dates and all other types become text."""
    if isinstance(value, dict):
        return {str(key): _plain(inner) for key, inner in value.items()}
    if isinstance(value, list):
        return [_plain(inner) for inner in value]
    return value if value is None or isinstance(value, bool | int | str) else _number_or_text(value)


def _number_or_text(value: Any) -> float | str:
    return value if isinstance(value, float) and math.isfinite(value) else str(value)
