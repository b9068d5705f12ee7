"""The OpenAPI document: valid, complete, and true of requests and answers."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st
from jsonschema import Draft202012Validator
from openapi_spec_validator import validate
from servers import make_index, running

from refcolbert.service import ServiceLimits, wire
from refcolbert.service.endpoints import endpoints
from refcolbert.service.http_errors import CODES
from refcolbert.service.part_endpoints import part_endpoints
from refcolbert.service.schemas import matches

BODIES = {
    "/search": {"query": "a date", "k": 2, "where": {"year": {"$gt": 1}}, "exact": True, "min_score": 0.1},
    "/search_many": {"queries": ["a date", "a wing"], "mode": "words"},
    "/explain": {"query": "a date", "id": "date", "mode": "hybrid", "matrix": True},
    "/rerank": {"query": "a date", "documents": ["a", {"text": "b"}], "return_documents": True},
    "/encode": {"texts": ["a date"]},
}
PARTS = {
    "/parts/counts": {"terms": ["ZGF0ZQ==", "d2luZw=="], "similar": ["ZGFlcw=="], "where": {"year": {"$gt": 1}}},
    "/parts/pools": {
        **{"k": 2, "nprobe": 1, "candidates": 9, "exact": True, "ids": ["date", "wing"]},
        "queries": [
            {"vectors": "AACAPwAAAAA" + "A" * 75 + "=="},
            {
                "words": {
                    "terms": [{"term": "ZGF0ZQ==", "asked": "ZGF0ZQ==", "weight": 2.5}],
                    "n_terms": 1,
                    "mean_words": 3,
                }
            },
        ],
    },
    "/parts/get": {"ids": ["wing", "nobody"]},
    "/parts/explain": {"query": {"query": "a date", "vectors": "AACAPwAAAAA" + "A" * 75 + "=="}, "id": "date"},
}
BODIES |= PARTS
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
    """It has every endpoint and every error code."""
    limits = ServiceLimits()
    paths = {path for endpoint in endpoints(limits) + part_endpoints(limits) for path in endpoint.paths}
    assert set(document["paths"]) == paths | {"/info", "/health", "/ready", "/openapi.json", "/metrics"}
    text = json.dumps(document["paths"]["/search"]["post"])
    assert [code for code in CODES if f"`{code}`" not in text] == []


@pytest.mark.parametrize("path", BODIES)
def test_requests_and_answers_obey_the_document(client, document, path):
    """Requests that the service accepts, and its answers, match their schemas."""
    schema = document["paths"][path]["post"]["requestBody"]["content"]["application/json"]["schema"]
    settings = {"settings": wire.settings(client.live.now.index.view.manifest), "seconds": 9}
    body = BODIES[path] | (settings if path in PARTS else {})
    obeys(schema, body, document)
    reply = client.post(path, body)
    assert reply.status == 200, reply.body
    obeys(response_schema(document, path, "post"), reply.json, document)


@pytest.mark.parametrize("path", TARGETS)
def test_answers_of_get_obey_the_document(client, document, path):
    """Answers to GET match their schemas."""
    obeys(response_schema(document, path, "get"), client.get(TARGETS[path]).json, document)


def test_errors_obey_the_document(client, document):
    """Errors match their schema in every layer."""
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


# JSON Schema takes 1.0 as an integer and refuses rows without numbers: the service and the index differ on purpose.
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-1, 1100) | st.just(0.5) | st.sampled_from(["", "query", "x" * 30]),
    lambda inner: st.lists(inner, min_size=1, max_size=5) | st.dictionaries(st.sampled_from(["text", "k"]), inner),
    max_leaves=6,
)


@given(VALUES)
def test_the_check_of_a_field_is_that_of_json_schema(value):
    """A value matches a field of a request exactly when a JSON Schema validator says so."""
    limits = ServiceLimits(characters=20, vectors=2, batch=2, documents=2, body_bytes=25)
    for endpoint in endpoints(limits) + part_endpoints(limits):
        for name, field in endpoint.request["properties"].items():
            assert matches(value, field) == Draft202012Validator(field).is_valid(value), name
