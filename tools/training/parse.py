"""From the formats of documentation to rows: articles in JATS XML, reStructuredText, manual pages, docstrings.

A row's query is text of the source: a title, a heading, or a description's first sentence, which its document then
lacks. Nothing is executed.
"""

import ast
import re
import warnings
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from xml.etree import ElementTree

__all__ = ["Row", "article", "docstrings", "man_page", "rst_sections"]

SENTENCE = re.compile(r"(?<=[.!?])\s+(?=[A-Z])")
SHARED = re.compile(r"creativecommons\.org/(?:licenses|publicdomain)/([a-z-]+)")
CC_BY = re.compile(r"Creative Commons Attribution (?:4.0 )?(?:International )?Licen[cs]e", re.IGNORECASE)
RESTRICTED = re.compile(r"non-?commercial|share-?alike|no-?deriv", re.IGNORECASE)
APART = {"fig", "table-wrap", "disp-formula", "tex-math", "sec", "title", "label", "supplementary-material"}
GENERAL = re.compile(
    r"background|introduction|methods?|results?|discussion|conclusions?|statistical analys[ie]s|data (?:analysis|"
    r"availability).*|study (?:design|population)|participants|limitations.*|abstract|copyright|.*acknowledge?ments|"
    r".*references|.*funding.*|.*interests?|.*contributions?|materials and methods|results and discussion|ethic.*",
    re.IGNORECASE,
)
HEADING = re.compile(r"^(?:([^\n.][^\n]*)\n([=\-~^*\"'`+#])\2{2,}\n|( *)\.\. ([a-z:]+):: ([^\n]*\n))", re.MULTILINE)
OBJECTS = re.compile(r"(?:c:)?(?:function|class|method|classmethod|staticmethod|attribute|exception|data|decorator)")
BUILT_IN = {"stdtypes", "functions", "exceptions", "constants", "datamodel"}  # pages about the language itself
NO_SECTION = re.compile(
    r"NAME|SYNOPSIS|.*SEE ALSO|AUTHORS?|COPYRIGHT|.*BUGS?|HISTORY|COLOPHON|.*OPTIONS|.*EXAMPLES?|LICENSE"
)
BLOCKS = {".TS": ".TE", ".EX": ".EE", ".nf": ".fi", ".de": "..", ".ig": ".."}
ESCAPES = {r"\-": "-", r"\e": "\\", r"\ ": " ", r"\~": " ", r"\(aq": "'", r"\(dq": '"', r"\(rs": "\\", r"\(en": "-"}
ESCAPE = re.compile(r"\\(?:h'[^']*'|f(?:\[\w*\]|\(..|.)|s[+-]?\d+|m\[\w*\]|\*(?:\[\w*\]|\(..|.)|\(..|\[\w+\]|.)")
RAISES = re.compile(
    r"Raises:?[\s-]+(\w+(?:Error|Exception))[\s:]+(?:[Ii]f |[Ww]hen )?(.+?)(?:\.\s|\n\s*\n|$)", re.DOTALL
)


@dataclass(frozen=True, slots=True)
class Row:
    """A query and its document; with the dotted name or command and the error message that somebody may type."""

    query: str
    positive: str
    identifier: str = ""
    error: str = ""


def _lead(text: str, name: str, identifier: str = "", error: str = "") -> Iterator[Row]:
    """Yield the first sentence as query of the rest, which begins with its name."""
    first, *rest = SENTENCE.split(text.strip(), maxsplit=1)
    if rest:
        yield Row(first, f"{name}: {rest[0]}", identifier, error)


def _plain(element: ElementTree.Element) -> str:
    """Return an element's text without figures, tables, formulas, inner sections and numbers of references."""
    parts = [element.text or ""]
    for child in element:
        left_out = child.tag in APART or child.get("ref-type") == "bibr"
        parts += ["" if left_out else _plain(child), child.tail or ""]
    end = "\n" if element.tag == "p" else ""
    return re.sub(r"\s*[\[(][\s,;–-]*[\])]", "", "".join(parts)) + end


def article(content: bytes) -> tuple[list[Row], list[Row]]:
    """Return title and abstract, and the titled sections, of a JATS article whose licence is CC BY or CC0."""
    if b"<article" not in content[:2000]:
        return [], []
    try:
        root = ElementTree.fromstring(content)  # noqa: S314 - expat refuses the entities that grow
    except ElementTree.ParseError:
        return [], []
    rights, title = root.find(".//article-meta/permissions"), root.find(".//article-meta//article-title")
    if root.tag != "article" or rights is None or title is None:
        return [], []
    statement = ElementTree.tostring(rights, "unicode")
    licences = set(SHARED.findall(statement)) or ({"by"} if CC_BY.search(statement) else {"none"})
    if not licences <= {"by", "zero"} or RESTRICTED.search(statement):
        return [], []
    sections = []
    for section in root.iterfind(".//body//sec"):
        heading = section.find("title")
        text = "".join(heading.itertext()).strip() if heading is not None else ""
        if len(text.split()) > 2 and not GENERAL.fullmatch(text):
            sections.append(Row(re.sub(r"^[\d.]+\s*", "", text), " ".join(map(_plain, section.findall("p")))))
    abstracts = root.findall(".//article-meta/abstract")[:1]
    return [Row("".join(title.itertext()), " ".join(map(_plain, found.iter("p")))) for found in abstracts], sections


def _unmarked(text: str) -> str:
    """Return reStructuredText without markup, directives' options and blocks of code."""
    kept, code = [], -1
    for block in re.split(r"\n\s*\n", text):
        indent = len(block) - len(block.lstrip())
        if (code >= 0 and indent > code) or block.lstrip().startswith((">>>", ".. ", "+-", "==")):
            continue
        code = indent if block.rstrip().endswith("::") else -1
        kept.append(re.sub(r"^\s+:[\w -]+:.*$", "", block, flags=re.MULTILINE))
    text = re.sub(r":(pep|rfc):`", lambda match: f"{match[1].upper()} `", " ".join(kept).replace("::", ":"))
    plain = re.sub(r":[\w:]+:`[~!]?([^`<]+?)(?:\s*<[^>]*>)?`", r"\1", text.replace("\\ ", ""))
    return re.sub(r"`+([^`<]+?)(?:\s*<[^>]*>)?`+_*|\*\*?([^*\s][^*]*)\*\*?|\[#?[\w-]+\]_", r"\1\2", plain)


def rst_sections(text: str, title: str, name: str) -> Iterator[Row]:
    """Yield headings with their text, and the first sentence of an object's description with the rest.

    A heading that every document has is asked for by the document's title. `name` goes before what is described.
    """
    found = list(HEADING.finditer(text))
    for i, match in enumerate(found):
        body = text[match.end() : found[i + 1].start() if i + 1 < len(found) else len(text)]
        if match[1]:
            heading, general = _unmarked(match[1]), GENERAL.fullmatch(match[1].strip())
            if title and match[1].strip() == "Abstract":
                yield Row(title, f"{name}: {_unmarked(body)}", name)
            elif not general and len(heading.split()) > 1:
                yield Row(heading, f"{title or name}: {_unmarked(body)}")
        elif OBJECTS.fullmatch(match[4]):
            # Further signatures and options follow without a blank line.
            body = f"\n{body}".partition("\n\n")[2]
            called = re.split(r"[(\n]", match[5].strip())[0].split(" ")[-1]
            known = called.startswith(f"{name}.") or match[4].startswith("c:") or name in BUILT_IN
            full = called if known else f"{name}.{called}"
            yield from _lead(_unmarked(body), full, full)


def _unescaped(text: str) -> str:
    return ESCAPE.sub(lambda match: ESCAPES.get(match[0], ""), text)


def _man_lines(source: str) -> Iterator[tuple[str, str]]:
    """Yield (request, text) of each line of man(7) source; the request of plain text is empty."""
    end = ""
    for line in source.splitlines():
        request, _, rest = line.partition(" ")
        if end or request in BLOCKS:
            end = "" if end and request == end else end or BLOCKS[request]
        elif line[:1] not in (".", "'"):
            yield "", _unescaped(line)
        elif re.fullmatch(r"\.(?:[BIRS][BIRM]?|SH|SS|TP|TQ|IP|PP|P|LP)", request):
            words = [quoted or word for quoted, word in re.findall(r'"([^"]*)"|(\S+)', rest.replace(r"\ ", r"\~"))]
            joined = "" if len(request) == 3 and request[1] in "BIR" else " "
            kind = request if request[1:] in ("SH", "SS", "TP", "TQ", "IP", "PP", "P", "LP") else ""
            yield kind, _unescaped(words[0] if kind == ".IP" and words else (joined if not kind else " ").join(words))


def man_page(source: str) -> Iterator[Row]:
    """Yield a page's description, its sections and its options, asked for by what they say of themselves."""
    texts: defaultdict[str, str] = defaultdict(str)  # of each section
    entries: list[list[str]] = []  # section, tag, text
    section, tag = "", False
    for request, text in _man_lines(source):
        if request in (".SH", ".SS"):
            section, tag = (text.upper() if request == ".SH" else text), False
            entries.append([section, "", ""])
        elif request in (".TP", ".TQ", ".IP"):
            tag = request != ".IP"
            entries.append([section, "" if tag else text, ""])
            texts[section] += "" if tag else f" {text}"
        elif text or request:
            texts[section] += f" {text}"
            if tag:
                entries[-1][1], tag = text, False
            elif entries:
                entries[-1][2] += f" {text}"
    names, _, about = texts.pop("NAME", "").strip().partition(" - ")
    name = names.split(",")[0].strip()
    # Lists of changes, of which Perl has dozens, and of contents are no manual.
    if not about or " " in name or re.fullmatch(r"perl(\d*delta|toc)", name):
        return
    errors = [
        entry_tag for head, entry_tag, _ in entries if head == "ERRORS" and re.fullmatch(r"E[A-Z0-9]+", entry_tag)
    ]
    for heading, text in texts.items():
        if heading == "DESCRIPTION":
            yield Row(about, f"{name}: {text}", name)
        elif heading and not NO_SECTION.fullmatch(heading.upper()):
            error = f"{name} {errors[len(errors) // 2]}" if heading == "ERRORS" and errors else ""
            yield Row(heading if heading[-1] == "?" else f"{name} {heading.lower()}", f"{name}: {text}", error=error)
    for heading, option, text in entries:
        if option and heading != "ERRORS" and len(option) > 2:
            asked = re.split(r"[,= \[]", option)[0]
            typed = re.fullmatch(r"-.+|[A-Z][A-Z0-9_]{2,}", asked)
            yield from _lead(text, f"{name} {option}", f"{name} {asked}" if typed else "")


def docstrings(path: str, content: bytes) -> Iterator[Row]:
    """Yield a docstring's first paragraph with the rest, for what is public in a Python file."""
    parts = path.removesuffix(".py").split("/")
    if any(part.startswith("_") and part != "__init__" for part in parts):
        return
    try:
        with warnings.catch_warnings(action="ignore", category=SyntaxWarning):
            tree = ast.parse(content)
    except (SyntaxError, ValueError):
        return
    waiting: list[tuple[ast.AST, str]] = [(tree, ".".join(part for part in parts if part != "__init__"))]
    while waiting:
        node, name = waiting.pop()
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            first, _, rest = (ast.get_docstring(node) or "").partition("\n\n")
            raised = RAISES.search(rest)
            error = f"{raised[1]} {' '.join(raised[2].split())}"[:100] if raised else ""
            text = re.split(r"\n(?:Examples?|References|See Also):?\n", rest)[0]
            text = re.sub(r"^[-=~]{3,}$", "", _unmarked(text), flags=re.MULTILINE)
            yield Row(_unmarked(first), f"{name}: {text}", name, error)
            public = (child for child in node.body if isinstance(child, ast.ClassDef | ast.FunctionDef))
            waiting += [(child, f"{name}.{child.name}") for child in public if not child.name.startswith("_")]
