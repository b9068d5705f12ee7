"""The service's endpoints over a real socket: each answer is the library's, each mistake is named."""

import base64
import json

import numpy as np
import pytest
from servers import DOCUMENTS, make_index, running

from refcolbert import Encoder, Index, rerank
from refcolbert._version import __version__

QUERY = "parse a date"
MODES = ("late", "words", "hybrid")


@pytest.fixture(scope="module")
def folder(encoder, tmp_path_factory):
    """An index of three documents."""
    return make_index(tmp_path_factory.mktemp("service") / "index", encoder)


@pytest.fixture(scope="module")
def index(folder):
    """The same index in this process."""
    with Index.open(folder) as opened:
        yield opened


@pytest.fixture(scope="module")
def client(folder):
    """A client of a service of it."""
    with running(folder) as found:
        yield found


def as_json(hits):
    """Hits as the service writes them."""
    names = ("rank", "score", "id", "text", "metadata", "similarity")
    return [
        {**{name: getattr(h, name) for name in names}, "parts": {"late": h.parts.late, "words": h.parts.words}}
        for h in hits
    ]


# ---- search


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"k": 2},
        {"k": 1000},
        {"where": {"year": {"$gte": 2020}}},
        {"where": {"lang": "en"}, "k": 1},
        {"where": {}},
        {"where": {"year": 1}},
        {"ids": ["wing", "date", "unknown"]},
        {"ids": []},
        {"group_by": "lang", "k": 2},
        {"exact": True, "nprobe": 3, "candidates": 7},
        {"mode": "late"},
        {"mode": "words"},
        {"mode": "hybrid", "k": 2},
        {"mode": "words", "where": {"year": 2021}},
        {"min_score": 0.5},
        {"min_score": 2},
        {"mode": "hybrid", "min_score": -1},
    ],
)
def test_search_is_the_librarys(client, index, options):
    """POST /search returns the hits, scores to the last bit, and the generation."""
    reply = client.post("/search", {"query": QUERY, **options})
    assert reply.status == 200
    assert reply.json["hits"] == as_json(index.search(QUERY, **options))
    assert reply.json["generation"] == index.generation
    assert set(reply.json["took_ms"]) == {"encode", "search"}


@pytest.mark.parametrize(
    ("target", "options"),
    [
        ("/search?q=parse+a+date", {}),
        ("/search?query=parse%20a%20date&k=2", {"k": 2}),
        ("/search?q=parse+a+date&where=%7B%22year%22%3A2021%7D", {"where": {"year": 2021}}),
        ('/search?q=parse+a+date&ids=["wing"]'.replace('"', "%22"), {"ids": ["wing"]}),
        ("/search?q=parse+a+date&exact=true&nprobe=2&candidates=5", {"exact": True, "nprobe": 2, "candidates": 5}),
        ("/search?q=parse+a+date&exact=0", {}),
        ("/search?q=parse+a+date&mode=words", {"mode": "words"}),
        ("/search?q=parse+a+date&mode=hybrid&min_score=0.5", {"mode": "hybrid", "min_score": 0.5}),
    ],
)
def test_search_by_url(client, index, target, options):
    """GET /search takes the same fields as parameters, lists and objects as JSON."""
    reply = client.get(target)
    assert reply.status == 200, reply.body
    assert reply.json["hits"] == as_json(index.search(QUERY, **options))


def test_search_takes_vectors(client, index):
    """A query may be its token vectors."""
    (vectors,) = index.query_vectors([QUERY])
    reply = client.post("/search", {"query": vectors.tolist(), "k": 3})
    assert reply.json["hits"] == as_json(index.search(vectors, 3))


@pytest.mark.parametrize(("mode", "encoded"), [("words", 0), ("hybrid", 1), ("late", 1)])
def test_each_text_is_encoded_once_or_not_at_all(folder, index, monkeypatch, mode, encoded):
    """A search by words encodes nothing; a hybrid one encodes its text once, alone or in a list."""
    calls = []
    encode = Encoder.encode_queries
    monkeypatch.setattr(Encoder, "encode_queries", lambda self, texts: (calls.append(texts), encode(self, texts))[1])
    expected = as_json(index.search(QUERY, mode=mode))
    calls.clear()
    with running(folder) as client:
        calls.clear()
        assert client.post("/search", {"query": QUERY, "mode": mode}).json["hits"] == expected
        (result,) = client.post("/search_many", {"queries": [QUERY], "mode": mode}).json["results"]
    assert result["hits"] == expected
    assert calls == [[QUERY]] * 2 * encoded


@pytest.mark.parametrize(
    "query", ["", " ", "caf\u00e9 \u4e2d\u6587 \U0001f600", "a\0b", "x" * 4096, '"\\', "[MASK] [SEP]"]
)
def test_any_text_is_a_query(client, index, query):
    """Empty, blank, long and strange queries are answered as the library answers them."""
    assert client.post("/search", {"query": query}).json["hits"] == as_json(index.search(query))


def test_many_queries_share_a_generation(client, index):
    """POST /search_many answers each query in order."""
    queries = [QUERY, "a wing", ""]
    reply = client.post("/search_many", {"queries": queries, "k": 2, "where": {"year": {"$lt": 2022}}})
    expected = index.search_many(queries, 2, where={"year": {"$lt": 2022}})
    assert [result["hits"] for result in reply.json["results"]] == [as_json(hits) for hits in expected]
    assert client.post("/search_many", {"queries": []}).json["results"] == []


def test_concurrent_queries_are_answered_each_with_its_own(client, index):
    """Each client gets the answer to its own query when queries are encoded together."""
    from concurrent.futures import ThreadPoolExecutor

    queries = [(f"{word} number {i}", mode) for i in range(20) for word in ("date", "wing") for mode in MODES]
    with ThreadPoolExecutor(24) as pool:
        replies = list(pool.map(lambda query: client.post("/search", {"query": query[0], "mode": query[1]}), queries))
    assert [reply.status for reply in replies] == [200] * len(queries)
    for (query, mode), reply in zip(queries, replies, strict=True):
        expected = {hit.id: hit.score for hit in index.search(query, mode=mode)}
        found = {hit["id"]: hit["score"] for hit in reply.json["hits"]}
        assert found == pytest.approx(expected, abs=1e-4)  # float32 vectors of a batch differ in their last bits


# ---- explain, rerank, encode


def test_explain_is_the_librarys(client, index):
    """POST /explain returns the explanation of that document, the matrix only when asked."""
    (hit,) = index.search(QUERY, 1, ids=["file"])
    explanation = hit.explain()
    plain = client.post("/explain", {"query": QUERY, "id": "file"}).json
    full = client.post("/explain", {"query": QUERY, "id": "file", "matrix": True}).json
    shown = {"id": "file", "text": hit.text, "metadata": hit.metadata, "generation": index.generation}
    assert plain == json.loads(json.dumps({**shown, **explanation.to_dict()}))
    assert full == json.loads(json.dumps({**shown, **explanation.to_dict(matrix=True)}))
    assert sum(match["similarity"] for match in full["matches"]) == pytest.approx(hit.score, abs=1e-6)
    assert "".join(segment["text"] for segment in full["segments"]) == hit.text


@pytest.mark.parametrize("mode", ["words", "hybrid"])
def test_explain_has_the_shared_words(client, index, mode):
    """With a mode that ranks by words the explanation is the library's, and has the words with their places."""
    (hit,) = index.search(QUERY, 1, ids=["date"], mode=mode)
    found = client.post("/explain", {"query": QUERY, "id": "date", "mode": mode, "matrix": True}).json
    assert found.items() >= json.loads(json.dumps(hit.explain().to_dict(matrix=True))).items()
    assert sum(word["score"] for word in found["shared_words"]) == pytest.approx(hit.parts.words)
    spellings = {found["text"][slice(*span)] for word in found["shared_words"] for span in word["spans"]}
    assert spellings == {"parse", "a", "date"}


def test_explain_names_an_unknown_document(client):
    """A document that is not there is 404."""
    reply = client.post("/explain", {"query": QUERY, "id": "nobody"})
    assert (reply.status, reply.code) == (404, "unknown_id")
    assert "nobody" in reply.json["error"]["message"]


@pytest.mark.parametrize("path", ["/rerank", "/v1/rerank", "/v2/rerank"])
def test_rerank_has_the_common_shape(client, encoder, path):
    """Cohere's and Jina's clients find index and relevance_score, best first, at most 1."""
    texts = [document["text"] for document in DOCUMENTS]
    given = [texts[0], {"text": texts[1]}, texts[2]]
    expected = [(int(hit.id), hit.score / 32) for hit in rerank(QUERY, texts, encoder)]
    reply = client.post(path, {"model": "any", "query": QUERY, "documents": given})
    assert [(r["index"], r["relevance_score"]) for r in reply.json["results"]] == expected
    assert all(r["relevance_score"] <= 1 + 1e-6 and "document" not in r for r in reply.json["results"])


def test_rerank_cuts_and_returns_texts_when_asked(client):
    """top_n bounds the answer, return_documents adds the texts; nothing to sort is an empty answer."""
    body = {"query": QUERY, "documents": ["a wing", "parse a date"], "top_n": 1, "return_documents": True}
    (result,) = client.post("/rerank", body).json["results"]
    assert result["document"]["text"] == body["documents"][result["index"]]
    assert client.post("/rerank", {"query": QUERY, "documents": []}).json["results"] == []


COHERE_FIELDS = {
    "max_tokens_per_doc": 4096,
    "max_chunks_per_doc": 10,
    "rank_fields": ["text"],
    "priority": 0,
    "relevant_spans": {"mode": "enabled", "threshold": 0.1},
}


@pytest.mark.parametrize("path", ["/rerank", "/v1/rerank", "/v2/rerank"])
def test_rerank_takes_the_fields_of_coheres_clients(client, path):
    """Fields of the public API that mean nothing here change nothing, and the OpenAPI document calls them ignored."""
    body = {"query": QUERY, "documents": ["a wing", "parse a date"]}
    plain, full = client.post(path, body), client.post(path, body | COHERE_FIELDS)
    assert (full.status, full.json) == (200, plain.json)
    content = client.get("/openapi.json").json["paths"][path]["post"]["requestBody"]["content"]
    properties = content["application/json"]["schema"]["properties"]
    assert all(properties[name]["description"].startswith("Ignored: ") for name in ["model", *COHERE_FIELDS])


def test_encode_is_the_encoders(client, encoder):
    """POST /encode returns the same float32 numbers, as JSON or as bytes."""
    texts = ["parse a date", "", "a wing"]
    for kind, expected in (
        ("query", encoder.encode_queries(texts)),
        ("document", [encoder.encode_documents(texts)[i] for i in range(3)]),
    ):
        plain = client.post("/encode", {"texts": texts, "kind": kind}).json
        packed = client.post("/encode", {"texts": texts, "kind": kind, "encoding_format": "base64"}).json
        assert (plain["dim"], plain["model"]) == (encoder.dim, encoder.hash)
        for numbers, text, rows in zip(plain["vectors"], packed["vectors"], expected, strict=True):
            np.testing.assert_array_equal(np.array(numbers, np.float32), rows)
            np.testing.assert_array_equal(np.frombuffer(base64.b64decode(text), "<f4").reshape(rows.shape), rows)


# ---- mistakes


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/search", {}),
        ("/search", []),
        ("/search", None),
        ("/search", "parse"),
        ("/search", {"query": None}),
        ("/search", {"query": 5}),
        ("/search", {"query": []}),
        ("/search", {"query": [[]]}),
        ("/search", {"query": [[1.0, 2.0]]}),
        ("/search", {"query": [[0.0] * 16, [0.0] * 15]}),
        ("/search", {"query": [["a"] * 16]}),
        ("/search", {"query": [[True] * 16]}),
        ("/search", {"query": "x" * 4097}),
        ("/search", {"query": "a", "k": 0}),
        ("/search", {"query": "a", "k": -1}),
        ("/search", {"query": "a", "k": 1001}),
        ("/search", {"query": "a", "k": 1.0}),
        ("/search", {"query": "a", "k": True}),
        ("/search", {"query": "a", "k": "5"}),
        ("/search", {"query": "a", "k": 10**400}),
        ("/search", {"query": "a", "nprobe": 0}),
        ("/search", {"query": "a", "candidates": 10**9}),
        ("/search", {"query": "a", "exact": 1}),
        ("/search", {"query": "a", "where": []}),
        ("/search", {"query": "a", "where": {"year": {"$bad": 1}}}),
        ("/search", {"query": "a", "where": {"year": [1]}}),
        ("/search", {"query": "a", "ids": "date"}),
        ("/search", {"query": "a", "ids": [1]}),
        ("/search", {"query": "a", "threads": 9}),
        ("/search", {"query": "a", "group_by": ""}),
        ("/search", {"query": "a", "group_by": ["lang"]}),
        ("/search", {"Query": "a"}),
        ("/search", {"query": "a", "mode": "bm25"}),
        ("/search", {"query": "a", "mode": 1}),
        ("/search", {"query": [[0.0] * 16], "mode": "words"}),
        ("/search", {"query": [[0.0] * 16], "mode": "hybrid"}),
        ("/search", {"query": "a", "min_score": "0.5"}),
        ("/search", {"query": "a", "min_score": True}),
        ("/search", {"query": "a", "min_score": float("nan")}),
        ("/search", {"query": "a", "min_score": 10**400}),
        ("/search", {"query": "a", "min_score": 0.5, "mode": "words"}),
        ("/search_many", {"queries": ["a", [[0.0] * 16]], "mode": "words"}),
        ("/explain", {"query": "a", "id": "date", "mode": "both"}),
        ("/explain", {"query": "nowhere", "id": "date", "mode": "words"}),
        ("/search_many", {"queries": "a"}),
        ("/search_many", {"queries": ["a"] * 65}),
        ("/search_many", {"queries": ["a", 5]}),
        ("/explain", {"query": "a"}),
        ("/explain", {"query": "a", "id": 5}),
        ("/explain", {"query": "a", "id": "date", "matrix": "yes"}),
        ("/rerank", {"query": "a", "documents": "b"}),
        ("/rerank", {"query": "a", "documents": [{"body": "b"}]}),
        ("/rerank", {"query": "a", "documents": [{"text": "b", "x": 1}]}),
        ("/rerank", {"query": "a", "documents": ["b"], "top_n": 0}),
        ("/rerank", {"query": "a", "documents": ["b"] * 1001}),
        ("/rerank", {"query": "a", "documents": ["b"], "max_tokens_per_doc": "many"}),
        ("/v2/rerank", {"query": "a", "documents": ["b"], "max_tokens": 5}),
        ("/encode", {"texts": "a"}),
        ("/encode", {"texts": ["a"], "kind": "passage"}),
    ],
)
def test_a_mistake_is_named(client, path, body):
    """A wrong field is 400, with a message that shows nothing of the machine."""
    reply = client.ask("POST", path, json.dumps(body).encode())
    assert (reply.status, reply.code) == (400, "invalid_input")
    message = reply.json["error"]["message"]
    assert 10 < len(message) < 2000
    assert "Traceback" not in message
    assert ".py" not in message
    assert reply.json["error"]["request_id"] == reply.headers["x-request-id"]


@pytest.mark.parametrize(
    "target",
    [
        "/search",
        "/search?q=a&q=b",
        "/search?q=a&query=b",
        "/search?q=a&k=x",
        "/search?q=a&k=",
        "/search?q=a&k=0",
        "/search?q=a&k=" + "9" * 5000,
        "/search?q=a&exact=maybe",
        "/search?q=a&where=x",
        "/search?q=a&where=5",
        "/search?q=a&where=" + "%5B" * 300,
        "/search?q=a&unknown=1",
        "/search?q=a&mode=both",
        "/search?q=a&mode=",
        "/search?q=a&min_score=nan",
        "/search?q=a&min_score=inf",
        "/search?q=a&min_score=high",
        "/search?q=a&min_score=0.5&mode=words",
        "/search?q=%ff%fe",
        "/search?q=" + "x" * 4097,
        "/search?q=a" + "&k=1" * 500,
    ],
)
def test_a_mistake_in_a_url_is_named(client, target):
    """A wrong parameter of GET is 400."""
    assert (client.get(target).status, client.get(target).code) == (400, "invalid_input")


@pytest.mark.parametrize(
    ("body", "message"),
    [
        (
            {"query": "x" * 5000},
            "query: expected a text of at most 4096 characters, or a list of 1 to 256 items, each a list of numbers, "
            f"found '{'x' * 79}... (5,000 characters)",
        ),
        ({"query": "a", "k": 0}, "k: expected an integer from 1 to 1000, found 0"),
        ({"query": "a", "mode": "bm25"}, "mode: expected one of late, words, hybrid, found 'bm25'"),
        ({"query": "a", "exact": 1}, "exact: expected true or false, found 1"),
        ({"query": "a", "where": []}, "where: expected an object, found []"),
        (
            {"query": "a", "ids": [1]},
            "ids: expected a list of at most 1000 items, each a text of at most 4096 characters, found [1]",
        ),
    ],
    ids=lambda value: value[:5] if isinstance(value, str) else None,
)
def test_a_wrong_field_is_refused_in_words(client, body, message):
    """The message has the rule of the field in words, not a JSON Schema, and shows how long a long value is."""
    reply = client.post("/search", body)
    assert (reply.status, reply.json["error"]["message"]) == (400, message)


@pytest.mark.parametrize("value", ["x", "", "1.5", "9" * 5000])
def test_a_wrong_number_in_a_url_is_refused_in_words(client, value):
    """A parameter of a URL that is not a number gets the same message as a field."""
    message = client.get(f"/search?q=a&k={value}").json["error"]["message"]
    assert message.startswith(f"k: expected an integer from 1 to 1000, found '{value[:60]}")


# ---- about itself


def test_info_tells_nothing_of_the_machine(client, index, folder):
    """GET /info is `Index.info` without folders, the version and the limits of the service."""
    found = client.get("/info").json
    assert (found["documents"], found["words"]) == (3, "unicode61")
    assert (found.pop("version"), found.pop("limits")["k"]) == (__version__, 1000)
    assert found == {**index.info(), "path": folder.name, "encoder": {"hash": index.info()["encoder"]["hash"]}}
    assert str(folder.parent) not in json.dumps(found)


def test_it_is_well(client):
    """GET /health and /ready say ok; HEAD has no body."""
    assert client.get("/health").json == client.get("/ready").json == {"status": "ok"}
    assert client.ask("HEAD", "/health").body == b""


def test_metrics_count(client):
    """GET /metrics has Prometheus' form, counts requests by route and status, and knows the index."""
    from prometheus_client.parser import text_string_to_metric_families

    def read():
        families = text_string_to_metric_families(client.get("/metrics").body.decode())
        return {(s.name, *sorted(s.labels.items())): s.value for family in families for s in family.samples}

    labels = (("method", "GET"), ("route", "/health"), ("status", "200"))
    before = read()
    client.get("/health")
    client.get("/nowhere/at/all")
    after = read()
    assert after["refcolbert_requests_total", *labels] == before.get(("refcolbert_requests_total", *labels), 0) + 1
    assert after["refcolbert_documents",] == 3
    assert after["refcolbert_generation",] == 2
    assert after["refcolbert_requests_running",] == 1
    assert not any("/nowhere" in str(key) for key in after)


def test_a_request_id_is_kept_or_made(client):
    """A harmless X-Request-ID comes back, another one is replaced."""
    assert client.get("/health", **{"X-Request-ID": "abc-1.2_3"}).headers["x-request-id"] == "abc-1.2_3"
    ids = {client.get("/health", **{"X-Request-ID": "a b" + "x" * 100}).headers["x-request-id"] for _ in range(2)}
    assert len(ids) == 2
    assert all(len(given) == 32 for given in ids)


def test_the_page_is_served_with_safe_headers(client):
    """GET / is the page; scripts come from here alone; every file that it may load is there."""
    reply = client.get("/")
    assert reply.headers["content-type"].startswith("text/html")
    assert "script-src 'self'" in reply.headers["content-security-policy"]
    assert reply.headers["x-content-type-options"] == "nosniff"
    assert client.get("/static/index.html").body == reply.body
    assert client.get("/static/nothing.js").code == "not_found"


@pytest.mark.parametrize("method", ["PUT", "DELETE", "PATCH", "OPTIONS", "TRACE", "BREW"])
def test_other_methods_are_refused(client, method):
    """405 lists the allowed methods."""
    reply = client.ask(method, "/search")
    assert (reply.status, reply.code) == (405, "method_not_allowed")
    assert reply.headers["allow"] == "GET, HEAD, POST"
    assert client.get("/explain").headers["allow"] == "POST"


def test_an_index_without_words_says_how_to_get_them(tmp_path, encoder):
    """A mode that needs words is 400 with the library's advice where the index has none; the mode late is answered."""
    with Index.create(tmp_path / "index", encoder, words=None) as made:
        made.add(["a date"])
    with running(tmp_path / "index") as client:
        assert client.get("/info").json["words"] is None
        assert client.get("/search?q=a&mode=late").status == 200
        for mode in ("words", "hybrid"):
            reply = client.post("/search", {"query": "a", "mode": mode})
            assert (reply.status, reply.code) == (400, "invalid_input")
            assert "compact(words='porter') adds the words" in reply.json["error"]["message"]


def test_an_index_without_a_model_answers_vectors_alone(tmp_path):
    """Where vectors were added ready-made, a text is a mistake and vectors are answered."""
    rows = np.eye(4, dtype=np.float32)
    with Index.create(tmp_path / "index", dim=4) as made:
        made.add([{"id": "a"}, {"id": "b"}], vectors=[rows[:2], rows[2:]])
    with running(tmp_path / "index") as client:
        reply = client.post("/search", {"query": rows[3:].tolist()})
        assert [(hit["id"], hit["score"], hit["text"]) for hit in reply.json["hits"]] == [
            ("b", 1, None),
            ("a", 0, None),
        ]
        assert client.post("/search", {"query": "text"}).code == "invalid_input"
        assert client.post("/encode", {"texts": ["text"]}).code == "invalid_input"
        assert client.post("/rerank", {"query": "text", "documents": []}).code == "invalid_input"
