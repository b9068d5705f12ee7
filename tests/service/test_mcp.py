"""The MCP server, through the client of the official SDK."""

import asyncio
import json
import sys

import pytest
from mcp import Client, StdioServerParameters

from refcolbert import Index
from refcolbert.errors import InvalidInput
from refcolbert.service.mcp import MAX_HIT_TEXT, mcp_server

NOTES = [
    {"id": "dates", "text": "strptime turns a text into a date", "metadata": {"year": 2021}},
    {"id": "rows", "text": "csv reader gives each row as a list", "metadata": {"year": 2024}},
    {"id": "long", "text": "walk lists the files " * 500},
]


@pytest.fixture
def index(tmp_path, encoder):
    """Three notes."""
    made = Index.create(tmp_path / "notes", encoder)
    made.add(NOTES)
    return made


def call(server, *calls):
    """The answer of each (tool, arguments): what it returns, or the text of its error."""

    async def calling():
        answers = []
        async with Client(server) as client:
            for tool, arguments in calls:
                result = await client.call_tool(tool, arguments)
                answers.append(result.content[0].text if result.is_error else result.structured_content["result"])
        return answers

    return asyncio.run(calling())


def tools(server):
    """The names and descriptions of the tools."""

    async def listing():
        async with Client(server) as client:
            return {tool.name: tool.description for tool in (await client.list_tools()).tools}

    return asyncio.run(listing())


def test_search_returns_ids_and_bounded_texts(index):
    """Hits are those of the index; a long text is cut and says so; k is bounded."""
    hits, few = call(
        mcp_server({"notes": index}),
        ("search", {"query": "turn a text into a date", "k": 500}),
        ("search", {"query": "list", "where": {"year": 2024}}),
    )
    expected = index.search("turn a text into a date", 20, mode="hybrid")
    assert [(hit["id"], hit["similarity"]) for hit in hits] == [(hit.id, hit.similarity) for hit in expected]
    texts = {hit["id"]: hit["text"] for hit in hits}
    assert texts["dates"] == NOTES[0]["text"]
    assert texts["long"].endswith(f"({21 * 500 - MAX_HIT_TEXT:,} more characters)")
    assert [hit["id"] for hit in few] == ["rows"]


def test_get_and_explain(index):
    """A document comes by its id; an explanation names the words."""
    (document,), explained, unknown = call(
        mcp_server({"notes": index}),
        ("get", {"ids": ["rows"]}),
        ("explain", {"query": "csv rows", "id": "rows"}),
        ("get", {"ids": ["nobody"]}),
    )
    assert document == {"id": "rows", "metadata": {"year": 2024}, "text": NOTES[1]["text"]}
    assert "csv" in explained
    assert "'nobody'" in unknown


def test_errors_are_told_to_the_agent(index):
    """What the library refuses is the text of the answer, so that the agent can mend its call."""
    wrong, where = call(
        mcp_server({"notes": index}),
        ("search", {"query": "x", "index": "others"}),
        ("search", {"query": "x", "where": {"year": {"$wrong": 1}}}),
    )
    assert "expected one of the indexes notes, found 'others'" in wrong
    assert "$wrong" in where


def test_writes_at_a_time_wait_for_each_other(index):
    """An agent that calls a tool several times at once gets no IndexLocked of its own server."""

    async def calling():
        async with Client(mcp_server({"notes": index}, writable=True)) as client:
            adding = [client.call_tool("add", {"documents": [{"id": str(i), "text": "glob"}]}) for i in range(6)]
            return [result.is_error for result in await asyncio.gather(*adding)]

    assert not any(asyncio.run(calling()))
    assert len(index) == len(NOTES) + 6


def test_writing_is_offered_only_if_allowed(index):
    """Without writable there is no tool that changes anything; with it, changes are seen by the next call."""
    assert set(tools(mcp_server({"notes": index}))) == {"search", "get", "explain"}
    server = mcp_server({"notes": index}, writable=True)
    assert set(tools(server)) == {"search", "get", "explain", "add", "delete"}
    assert all(tools(server).values())
    added, found, deleted, gone = call(
        server,
        ("add", {"documents": [{"id": "new", "text": "glob finds files"}]}),
        ("get", {"ids": ["new"]}),
        ("delete", {"ids": ["new"]}),
        ("get", {"ids": ["new"]}),
    )
    assert (added, found[0]["text"], deleted) == (["new"], "glob finds files", "deleted 1")
    assert "'new'" in gone


def test_writes_of_others_are_seen(index):
    """A call sees the newest generation."""
    other = Index.open(index.path)
    server = mcp_server({"notes": index})
    other.add([{"id": "later", "text": "a later note"}])
    assert call(server, ("get", {"ids": ["later"]}))[0][0]["id"] == "later"


def test_no_index_is_refused():
    """A server has something to search."""
    with pytest.raises(InvalidInput, match="at least one index"):
        mcp_server({})


def test_the_verb_serves_over_stdio(tmp_path, index, encoder):
    """`refcolbert mcp INDEX INDEX` answers the SDK's client over stdio; the second index is asked for by its name."""
    Index.create(tmp_path / "more", encoder).add([{"id": "only", "text": "only here"}])
    program = "import sys; from refcolbert.cli import main; sys.exit(main())"
    arguments = ["-c", program, "mcp", str(index.path), str(tmp_path / "more")]
    server = StdioServerParameters(command=sys.executable, args=arguments)
    first, second = call(server, ("search", {"query": "date", "k": 1}), ("get", {"ids": ["only"], "index": "more"}))
    assert len(first) == 1
    assert json.dumps(second) == '[{"id": "only", "metadata": {}, "text": "only here"}]'
