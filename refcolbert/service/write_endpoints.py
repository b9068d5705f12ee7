"""The endpoints that change the index, for a service that is started as writable.

A client that got no answer can send the same request again: the index is then as after one request.
"""

from collections.abc import Callable
from typing import Any

from .endpoints import Call, Endpoint, Json
from .limits import ServiceLimits
from .reload import Live
from .schemas import array, integer, obj, string

__all__ = ["write_endpoints"]


def write_endpoints(live: Live, limits: ServiceLimits) -> tuple[Endpoint, ...]:
    """The endpoints that write to the index of `live`, each call in one transaction per shard."""
    name = string("The document's id.", maxLength=limits.characters)
    text = string("Its text.", maxLength=limits.body_bytes)
    metadata = {"type": "object", "description": "Its metadata; default: none."}
    document = obj("A document.", ("metadata",), id=name, text=text, metadata=metadata)
    response = obj(generation=integer("Of the index, with this change."))

    def endpoint(path: str, summary: str, fields: Any, change: Callable[[Any, Json], Any]) -> Endpoint:
        def answer(call: Call) -> Json:
            return {"generation": live.write(lambda index: change(index, call.fields))}

        return Endpoint(paths=(path,), summary=summary, request=fields, answer=answer, response=response)

    return (
        endpoint(
            "/upsert",
            "Add documents; one whose id is known replaces that document",
            obj("", documents=array(document, "Documents.", minItems=1, maxItems=limits.documents)),
            lambda index, fields: index.upsert(fields["documents"]),
        ),
        endpoint(
            "/delete",
            "Delete documents; ids that are not there are passed over",
            obj("", ids=array(name, "Ids.", minItems=1, maxItems=limits.documents)),
            _delete,
        ),
        endpoint(
            "/metadata",
            "Replace the metadata of documents, without encoding",
            obj("", documents=array(obj(id=name, metadata=metadata), maxItems=limits.documents)),
            lambda index, fields: index.update_metadata({d["id"]: d["metadata"] for d in fields["documents"]}),
        ),
    )


def _delete(index: Any, fields: Json) -> None:
    known = list(index.view.find(fields["ids"]))
    if known:
        index.delete(known)
