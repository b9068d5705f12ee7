"""The OpenAPI document: valid, complete, and true of what is taken and returned."""

import json

import pytest
from jsonschema import Draft202012Validator
from openapi_spec_validator import validate
from servers import make_index, running

from refcolbert.service import ServiceLimits
from refcolbert.service.endpoints import endpoints
from refcolbert.service.http_errors import CODES

BODIES = {
    "/search": {"query": "a date", "k": 2, "where": {"year": {"$gt": 1}}, "exact": True},
    "/search_many": {"queries": ["a date", "a wing"]},
    "/explain": {"query": "a date", "id": "date", "matrix": True},
    "/rerank": {"query": "a date", "documents": ["a", {"text": "b"}], "return_documents": True},
    "/encode": {"texts": ["a date"]},
}
BODIES |= {"/v1/rerank": BODIES["/rerank"], "/v2/rerank": BODIES["/rerank"]}
TARGETS = {"/search": "/search?q=a", "/info": "/info", "/health": "/health", "/ready": "/ready"}


@pytest.fixture(scope="module")
def client(encoder, tmp_path_factory):
    """A client of a service of three documents."""
    with running(make_index(tmp_path_factory.mktemp("openapi") / "index", encoder)) as found:
        yield found


@pytest.fixture(scope="module")
def document(client):
    """Its OpenAPI document."""
    return client.get("/openapi.json").json


def obeys(schema, value, document):
    """Validate a value against a schema of the document."""
    Draft202012Validator({**schema, "components": document["components"]}).validate(value)


def response_schema(document, path, method, status=200):
    """The schema of an answer."""
    return document["paths"][path][method]["responses"][str(status)]["content"]["application/json"]["schema"]


def test_the_document_is_valid(document):
    """A validator of OpenAPI 3.1 finds nothing wrong."""
    validate(document)
    ids = [operation["operationId"] for path in document["paths"].values() for operation in path.values()]
    assert len(set(ids)) == len(ids)


def test_the_document_is_complete(document):
    """Every endpoint, and every code of an error, stands in it."""
    paths = {path for endpoint in endpoints(ServiceLimits()) for path in endpoint.paths}
    assert set(document["paths"]) == paths | {"/info", "/health", "/ready", "/openapi.json", "/metrics"}
    text = json.dumps(document["paths"]["/search"]["post"])
    assert [code for code in CODES if f"`{code}`" not in text] == []


@pytest.mark.parametrize("path", BODIES)
def test_requests_and_answers_obey_the_document(client, document, path):
    """What the service takes and returns is what its schemas say."""
    schema = document["paths"][path]["post"]["requestBody"]["content"]["application/json"]["schema"]
    obeys(schema, BODIES[path], document)
    reply = client.post(path, BODIES[path])
    assert reply.status == 200
    obeys(response_schema(document, path, "post"), reply.json, document)


@pytest.mark.parametrize("path", TARGETS)
def test_answers_of_get_obey_the_document(client, document, path):
    """So do the answers of GET."""
    obeys(response_schema(document, path, "get"), client.get(TARGETS[path]).json, document)


def test_errors_obey_the_document(client, document):
    """So do errors, whoever raises them."""
    replies = [
        client.get("/search"),
        client.get("/nowhere"),
        client.ask("PUT", "/search"),
        client.ask("POST", "/search", b"x" * (1 << 21)),
        client.ask("POST", "/search", b"x", {"Content-Type": "text/plain"}),
        client.get("/info", Host="evil.example"),
        client.post("/explain", {"query": "a", "id": "nobody"}),
    ]
    assert [reply.status for reply in replies] == [400, 404, 405, 413, 415, 400, 404]
    for reply in replies:
        obeys({"$ref": "#/components/schemas/Error"}, reply.json, document)
        assert reply.code in CODES


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/search", {}),
        ("/search", {"query": 5}),
        ("/search", {"query": "a", "k": 0}),
        ("/search", {"query": "a", "k": 1001}),
        ("/search", {"query": "a", "k": True}),
        ("/search", {"query": "a", "where": []}),
        ("/search", {"query": "a", "ids": [5]}),
        ("/search", {"query": "a" * 4097}),
        ("/search", {"query": "a", "more": 1}),
        ("/search_many", {"queries": ["a"] * 65}),
        ("/rerank", {"query": "a", "documents": [{"text": 5}]}),
        ("/rerank", {"query": "a", "documents": [{"text": "a", "more": 1}]}),
        ("/encode", {"texts": ["a"], "kind": "passage"}),
        ("/explain", {"query": "a", "id": "b", "matrix": 1}),
    ],
)
def test_what_the_document_forbids_is_refused(client, document, path, body):
    """A request that the schema rejects, the service rejects too."""
    schema = document["paths"][path]["post"]["requestBody"]["content"]["application/json"]["schema"]
    assert list(Draft202012Validator(schema).iter_errors(body))
    assert client.post(path, body).status == 400
