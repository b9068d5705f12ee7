"""How the site is built from these pages: python -m sphinx -W docs build/site, or make docs.

Pages are Markdown. Docstrings are, too, as far as they go: paragraphs, `code`, and blocks indented by four columns; the
reader below turns that into what Sphinx reads. Nothing in the built pages is loaded from elsewhere.
"""

import inspect
import re
from collections.abc import Iterator
from dataclasses import is_dataclass

import refcolbert

project = "refcolbert"
version = release = refcolbert.__version__
copyright = "the authors of refcolbert, Apache-2.0"  # noqa: A001 - Sphinx's name
extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.viewcode", "sphinx_copybutton"]
exclude_patterns = ["Dockerfile"]

html_theme = "furo"
html_title = f"refcolbert {version}"
html_static_path = ["static"]
html_css_files = ["site.css"]
html_favicon = html_logo = "../refcolbert/service/page/icon.svg"
smartquotes = False  # what is quoted from code stays what it is
html_show_sphinx = False
html_copy_source = html_show_sourcelink = False
highlight_language = "text"  # of what does not say: indented blocks of docstrings
pygments_style, pygments_dark_style = "friendly", "monokai"

copybutton_prompt_text = r"\$ |>>> |\.\.\. "  # what is copied can be run
copybutton_prompt_is_regexp = True

myst_heading_anchors = 3
myst_links_external_new_tab = False

default_role = "code"  # `x` in a docstring is code
add_module_names = False
autodoc_typehints = "signature"
autodoc_member_order = "bysource"
autodoc_default_options = {"exclude-members": "__new__"}
python_maximum_signature_line_length = 100
python_use_unqualified_type_names = True

ARRAY_LIKE = re.compile(r"[\w.~]*_Buffer \| .*?_NestedSequence\[complex \| bytes \| str\]")
ARRAY = re.compile(r"[\w.~]*ndarray\[tuple\[[^]]*\], [\w.~]*dtype\[([^]]*)\]\]")
NOT_CALLED = {  # made by a method or a function, never by a call
    "refcolbert.Index",
    "refcolbert.Encoder",
    "refcolbert.Hit",
    "refcolbert.Explanation",
    "refcolbert.Match",
    "refcolbert.Tuning",
    "refcolbert.Plan",
    "refcolbert.evaluation.tune.Setting",
    "refcolbert.explanation.alignment.QueryWord",
    "refcolbert.explanation.alignment.TextPiece",
    "refcolbert.engine.search.Result",
    "refcolbert.engine.search.Stage",
    "refcolbert.service.server.Bound",
}
DESCRIBED = {  # what a docstring calls by these names has an entry in api.md
    **{name: f"refcolbert.{name}" for name in refcolbert.__all__},
    **{name: f"refcolbert.errors.{name}" for name in refcolbert.errors.__all__},
    **{
        f"{kind}.{name}": f"refcolbert.{kind}.{name}"
        for kind in ("Index", "Encoder")
        for name in dir(getattr(refcolbert, kind))
    },
}


def paragraphs(docstring: list[str]) -> Iterator[str]:
    """A docstring's lines as reStructuredText: an indented block is literal, `x` is code, all else is only text."""
    literal, blank = False, True
    for line in docstring:
        if line.startswith("    "):
            if not literal and blank:
                yield from ("::", "")
                literal = True
        elif line.strip():
            literal = False
        blank = not line.strip()
        yield line if literal else re.sub(r"(`[^`]+`)(?=(\w)?)|([*|_\\])", _escaped, line)


def _escaped(found: re.Match[str]) -> str:
    code, letter, mark = found.groups()
    if mark:
        return "\\" + mark
    name = code.strip("`")
    linked = f":py:obj:`{name} <{DESCRIBED[name]}>`" if name in DESCRIBED else code
    return linked + ("\\ " if letter else "")  # `Hit`s: the s does not belong to the code


def read_docstring(app: object, what: str, name: str, obj: object, options: object, lines: list[str]) -> None:
    """What autodoc does with each docstring before it is parsed; a dataclass shows what its fields' comments say."""
    shown = fields_of(obj) if what == "class" and is_dataclass(obj) else []
    lines[:] = [*paragraphs(lines), *([""] if shown else []), *paragraphs(shown)]


def fields_of(kind: object) -> list[str]:
    """A list of a dataclass's public fields: name, type, and the comment behind them in the source."""
    rows = re.findall(r"^    ([a-z]\w*): (.*?)(?: = .*?)?(?:  # (.*))?$", inspect.getsource(kind), re.MULTILINE)
    return [f"- `{name}: {annotation}`{comment and ', ' + comment}" for name, annotation, comment in rows]


def read_signature(
    app: object, what: str, name: str, obj: object, options: object, signature: str | None, returns: str | None
) -> tuple[str | None, str | None]:
    """What autodoc does with each signature: NumPy's aliases get their names back; some classes are not called."""
    if name in NOT_CALLED:
        return "", None
    return tuple(text and _with_aliases(text) for text in (signature, returns))


def _with_aliases(text: str) -> str:
    text = ARRAY.sub(r"NDArray[\1]", ARRAY_LIKE.sub("ArrayLike", text))
    return re.sub(r"<class '(\w+)'>", r"\1", text.replace("<factory>", "..."))


def setup(app) -> None:  # noqa: ANN001 - Sphinx's own type would import Sphinx where pages are only read
    """Called by Sphinx."""
    app.connect("autodoc-process-docstring", read_docstring)
    app.connect("autodoc-process-signature", read_signature)
