"""Source code: one section per function, method and class, by the parser tree-sitter.

A section has the lines of its definition, with decorators and the comments directly above, but without the definitions
inside that have sections of their own. A function inside a function has none. All other lines of a file are its first
section. So every line is in exactly one section.
"""

import re
from collections import defaultdict
from collections.abc import Iterator
from importlib import import_module
from textwrap import dedent
from typing import TYPE_CHECKING

from .markdown import Section

if TYPE_CHECKING:
    from tree_sitter import Node

__all__ = ["ENDINGS", "LIBRARIES", "definitions"]

# Package and function of a grammar. TSX contains JavaScript, and C++ almost all of C.
GRAMMARS = {
    "tree_sitter_python.language": (".py", ".pyi"),
    "tree_sitter_java.language": (".java",),
    "tree_sitter_go.language": (".go",),
    "tree_sitter_rust.language": (".rs",),
    "tree_sitter_typescript.language_typescript": (".ts", ".mts", ".cts"),
    "tree_sitter_typescript.language_tsx": (".tsx", ".js", ".mjs", ".cjs", ".jsx"),
    "tree_sitter_cpp.language": (".c", ".h", ".cc", ".cpp", ".cxx", ".hh", ".hpp"),
}
ENDINGS = tuple(ending for endings in GRAMMARS.values() for ending in endings)
LIBRARIES = ("tree_sitter", *sorted({grammar.partition(".")[0] for grammar in GRAMMARS}))

# Types of nodes in the grammars.
FUNCTION = re.compile(r"(generator_)?(function|method|constructor)_(definition|declaration|item)")
CONTAINER = re.compile(
    r"(abstract_)?(class|interface|enum|record|struct|union|trait|impl|mod|namespace)_(definition|declaration|item|specifier)"
    r"|internal_module|type_spec"
)
ARROW = ("arrow_function", "function_expression")  # const f = () => ...
# A definition begins where these begin: `export class A`, a decorator.
WRAPPERS = (
    *("decorated_definition", "export_statement", "template_declaration", "type_declaration"),
    *("lexical_declaration", "variable_declaration"),
)


def definitions(text: str, ending: str) -> list[Section]:
    """Return the sections of a source file whose name ends in `ending`, in order.

    The one of the file itself comes first, without a name. The path of others is the qualified name, such as
    `Parser.parse`. It is the anchor, too, with a number if it occurs again. The metadata is `line`, the first one.
    """
    from tree_sitter import Language, Parser

    grammar = next((grammar for grammar, endings in GRAMMARS.items() if ending in endings), None)
    if grammar is None:
        return [Section(path=(), anchor="", body=text)]
    package, _, function = grammar.partition(".")
    parser = Parser(Language(getattr(import_module(package), function)()))
    lines = text.split("\n")
    names = [""]  # of the file itself
    owner = [0] * len(lines)  # per line: the innermost definition
    for path, first, last in _found(parser.parse(text.encode()).root_node):
        owner[first : last + 1] = [len(names)] * (last + 1 - first)
        names.append(".".join(path))
    rows: dict[int, list[int]] = defaultdict(list)
    for row, number in enumerate(owner):
        if lines[row].strip():
            rows[number].append(row)
    taken: dict[str, int] = defaultdict(int)
    parts = []
    for number, own in sorted(rows.items()):
        name = names[number]
        again, taken[name] = taken[name], taken[name] + 1
        kept = [line for row, line in enumerate(lines[own[0] : own[-1] + 1], own[0]) if owner[row] == number]
        parts.append(
            Section(
                path=(name,) if name else (),
                anchor=f"{name}-{again}" if again else name,
                body=re.sub(r"\n{3,}", "\n\n", dedent("\n".join(kept))),
                metadata={"line": own[0] + 1},
            )
        )
    return parts


def _found(root: "Node") -> Iterator[tuple[tuple[str, ...], int, int]]:
    """Yield (path, first row, last row) of the definitions of a tree, an outer one before those inside."""
    # Not recursive: a long sum is a tree as deep as it has terms.
    stack: list[tuple[Node, tuple[str, ...], int]] = [(root, (), 0)]
    while stack:
        node, path, first = stack.pop()
        name = _name(node)
        if name:
            path = (*path, *name)
            yield path, first, node.end_point.row
            if not CONTAINER.fullmatch(node.type):
                continue
        inner = []
        above: int | None = None  # the first row of the comments and attributes directly above
        ends = -1
        for child in node.named_children:
            row = child.start_point.row
            above = row if above is None or ends + 1 < row else above
            if "comment" in child.type or child.type == "attribute_item":
                ends = child.end_point.row
                continue
            inner.append((child, path, first if node.type in WRAPPERS else above))
            above = None
        stack += reversed(inner)


def _name(node: "Node") -> tuple[str, ...]:
    """Return the name of a definition; () for another node, and for a declaration without a body."""
    value = node.child_by_field_name("value")
    arrow = node.type == "variable_declarator" and value is not None and value.type in ARROW
    body = node.type == "type_spec" or node.child_by_field_name("body") is not None
    if not arrow and not (body and (FUNCTION.fullmatch(node.type) or CONTAINER.fullmatch(node.type))):
        return ()
    named = node
    while (declarator := named.child_by_field_name("declarator")) is not None:  # in C: **name(...)
        named = declarator
    if named == node:
        fields = ("name", "type") if node.type == "impl_item" else ("name",)
        named = next((child for field in fields if (child := node.child_by_field_name(field))), node)
    receiver = node.child_by_field_name("receiver")  # in Go: func (s *Server) Start()
    owner = re.findall(r"\w+", _text(receiver).partition("[")[0])[-1:] if receiver else []
    # A reference in C++ has no field for its name: &name(...). In Rust, impl<T> Name<T> has no name, but a type.
    name = _text(named).partition("<" if node.type == "impl_item" else "(")[0].strip("&* ")
    return (*owner, name) if named != node and name else ()


def _text(node: "Node") -> str:
    return (node.text or b"").decode()
