"""An endpoint in a FastAPI application: uvicorn fastapi_service:app, then http://127.0.0.1:8000/docs.

`refcolbert serve INDEX` is a service that is ready-made, with a search page.
"""

from typing import Annotated, Any

from fastapi import FastAPI, HTTPException, Query

import refcolbert
from refcolbert.errors import UnknownId

app = FastAPI(title="Notes")
# Opened once, when the process starts; threads share it.
index = refcolbert.Index.open_or_create("service.index")
index.sync([{"id": "dates", "text": "strptime turns a text into a date"}, {"id": "files", "text": "open a file"}])


# Without async: FastAPI runs the function in a thread, and a search does not block the event loop.
@app.get("/search")
def search(q: str, k: Annotated[int, Query(ge=1, le=100)] = 3) -> list[dict[str, Any]]:
    """Return the k best notes for a question."""
    return index.search(q, k=k).to_dicts()


@app.get("/notes/{note}")
def read(note: str) -> dict[str, Any]:
    """Return one note."""
    try:
        (document,) = index.get([note])
    except UnknownId as error:
        raise HTTPException(404, f"no note {note!r}") from error
    return {"id": document.id, "text": document.text, "metadata": document.metadata}
