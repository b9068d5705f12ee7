"""An index as tools of an agent, by the Model Context Protocol: search, get, explain, and if allowed add and delete.

Answers are bounded, because an agent reads all of them: a long text is cut, and says so.
"""

import threading
from collections.abc import Callable, Mapping
from functools import wraps
from typing import Any, TypeVar

from ..errors import InvalidInput, MissingDependency, RefColbertError
from ..index import Index
from ..sharded import ShardedIndex

try:
    from mcp.server.mcpserver import MCPServer
    from mcp.server.mcpserver.exceptions import ToolError
except ImportError as error:
    raise MissingDependency("the MCP server needs mcp 2.0 or newer: pip install 'refcolbert[mcp]'") from error

__all__ = ["mcp_server"]

Tool = TypeVar("Tool", bound=Callable[..., Any])
MAX_HITS = 20
MAX_HIT_TEXT = 2_000  # characters of a text in a list of hits
MAX_TEXT = 20_000  # characters of a text that is asked for by its id


def mcp_server(indexes: Mapping[str, Index | ShardedIndex], *, writable: bool = False) -> MCPServer:
    """Return a server with tools for these indexes. `mcp_server(...).run()` serves them over stdio.

    - `indexes`: by the names under which an agent asks for them. The first one is the default.
    - `writable`: add the tools `add` and `delete`.

    Every call sees the newest generation of its index. Raises `InvalidInput` if there is no index.
    """
    if not indexes:
        raise InvalidInput("expected at least one index, found none")
    default, writing = next(iter(indexes)), threading.Lock()
    names = ", ".join(f"{name} ({len(index):,} documents)" for name, index in indexes.items())
    server = MCPServer("refcolbert", instructions=f"Search in documents. Indexes: {names}. Default: {default}.")

    def opened(name: str | None) -> Index | ShardedIndex:
        if name is not None and name not in indexes:
            raise InvalidInput(f"expected one of the indexes {', '.join(indexes)}, found {name!r}")
        index = indexes[default if name is None else name]
        index.refresh()
        return index

    def mode_of(index: Index | ShardedIndex) -> str:
        return "late" if index.view.manifest.words is None else "hybrid"

    def tool(function: Tool) -> Tool:
        """Register a function. Its errors are told to the agent as they are."""

        @wraps(function)
        def telling(*args: Any, **kwargs: Any) -> Any:
            try:
                return function(*args, **kwargs)
            except RefColbertError as error:
                raise ToolError(str(error)) from error

        server.tool()(telling)
        return function

    @tool
    def search(
        query: str, k: int = 5, where: dict[str, Any] | None = None, index: str | None = None
    ) -> list[dict[str, Any]]:
        """Find the documents that answer a question or contain given words, best first.

        query: a question, keywords, an identifier or an error message, as text.
        k: number of documents, at most 20.
        where: a filter on metadata, such as {"year": {"$gte": 2020}} or {"tags": "draft"}.
        index: the name of an index, if there are several.

        Each hit has id, text, metadata, and similarity from -1 to 1. A long text is cut; `get` returns more of it.
        """
        searched = opened(index)
        hits = searched.search(query, min(k, MAX_HITS), mode=mode_of(searched), where=where)
        return [
            {"id": h.id, "similarity": h.similarity, "metadata": h.metadata, "text": _cut(h.text, MAX_HIT_TEXT)}
            for h in hits
        ]

    @tool
    def get(ids: list[str], index: str | None = None) -> list[dict[str, Any]]:
        """Return documents by their ids, at most 20, each with id, text and metadata."""
        if len(ids) > MAX_HITS:
            raise InvalidInput(f"expected at most {MAX_HITS} ids, found {len(ids)}; ask for some of them")
        documents = opened(index).get(ids)
        room = MAX_TEXT // max(len(documents), 1)
        return [{"id": d.id, "metadata": d.metadata, "text": _cut(d.text, room)} for d in documents]

    @tool
    def explain(query: str, id: str, index: str | None = None) -> str:  # noqa: A002
        """Say which words of a document matched which words of a query, and how much each adds to the score."""
        searched = opened(index)
        searched.get([id])  # raises UnknownId
        (hit,) = searched.search(query, 1, ids=[id], mode=mode_of(searched), exact=True)
        return _cut(str(hit.explain()), MAX_TEXT)

    if writable:

        @tool
        def add(documents: list[dict[str, Any]], index: str | None = None) -> list[str]:
            """Add documents {"id", "text", "metadata"}. One with a known id replaces that document. Returns ids."""
            # Agents call tools several at a time, each in its own thread.
            with writing:
                return opened(index).upsert(documents)

        @tool
        def delete(ids: list[str], index: str | None = None) -> str:
            """Delete documents by their ids. If one of them is unknown, nothing is deleted."""
            with writing:
                opened(index).delete(ids)
            return f"deleted {len(set(ids))}"

    return server


def _cut(text: str | None, most: int) -> str:
    """Return at most `most` characters of a text, and how many are missing."""
    text = text or ""
    return text if len(text) <= most else f"{text[:most]}... ({len(text) - most:,} more characters)"
