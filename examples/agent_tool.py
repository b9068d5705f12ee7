"""A search tool for a language model: a function, its schema, and the answer to a call.

The schema is in the format of OpenAI's chat completions, which most servers and libraries read. For clients of the
Model Context Protocol, `refcolbert mcp INDEX` is ready-made.
"""

import json
from typing import Any

import refcolbert

TOOL = {
    "type": "function",
    "function": {
        "name": "search_notes",
        "description": "Search the notes by meaning. Returns the best notes with id, text and similarity (-1 to 1).",
        "parameters": {
            "type": "object",
            "properties": {
                "query": {"type": "string", "description": "A question or a description, in natural language."},
                "k": {"type": "integer", "description": "Number of notes.", "minimum": 1, "maximum": 10},
            },
            "required": ["query"],
        },
    },
}


def answer(index: refcolbert.Index, call: dict[str, Any]) -> dict[str, Any]:
    """Return the message that answers a tool call. A model can correct an error that it reads."""
    try:
        arguments = json.loads(call["function"]["arguments"])
        hits = index.search(arguments["query"], k=min(arguments.get("k", 3), 10))
        found = [{"id": hit.id, "text": hit.text, "similarity": round(hit.similarity or 0, 2)} for hit in hits]
        content = json.dumps(found)
    except (KeyError, TypeError, ValueError) as error:
        content = f"error: {error}"
    return {"role": "tool", "tool_call_id": call["id"], "content": content}


if __name__ == "__main__":
    notes = refcolbert.Index.open_or_create("agent.index")
    notes.sync([{"id": "dates", "text": "strptime turns a text into a date"}, {"id": "files", "text": "open a file"}])
    # A model that got `tools=[TOOL]` replies with calls of this shape.
    request = {"id": "call_1", "function": {"name": "search_notes", "arguments": '{"query": "parse a date", "k": 1}'}}
    print(answer(notes, request))
