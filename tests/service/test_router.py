"""The router: services of parts answer as the service of the whole collection, whatever happens to one of them."""

import re
import socket
import subprocess
import sys
import threading
import time
from contextlib import ExitStack, contextmanager

import numpy as np
import pytest
from click.testing import CliRunner
from jsonschema import Draft202012Validator
from machines import another_machine
from servers import Client, running
from shards import cut

from refcolbert import Document, Index, ShardedIndex
from refcolbert.cli import main
from refcolbert.engine.hybrid import Pool
from refcolbert.errors import EncoderMismatch, InvalidInput, MissingPart
from refcolbert.service import ServiceLimits, http_parts, reload, schemas, wire
from refcolbert.service.requests import from_json, to_json
from refcolbert.service.router import Router

WORDS = ["date", "time", "parse", "file", "zone", "clock", "text", "line", "word", "list", "month", "strptime", "read"]
N = 60
SOON = {"reload_seconds": 0.05}
TOKEN = "a token of the parts".replace(" ", "-")


@pytest.fixture(scope="module")
def sharded(tmp_path_factory, encoder):
    """A sharded index of three shards with words and a codec; every document has a twin of equal scores."""
    rng, folder = np.random.default_rng(5), tmp_path_factory.mktemp("router")
    texts = [" ".join(rng.choice(WORDS, rng.integers(2, 9))) for _ in range(N // 2)]
    made = Index.create(folder / "whole", encoder, train_at=200, words="porter", nbits=2)
    for twin in "ab":
        made.add(
            [{"id": f"{twin}{i}", "text": t, "metadata": {"n": i, "g": f"g{i // 3}"}} for i, t in enumerate(texts)]
        )
    made.compact()
    return cut(made, folder / "shards", [13, 40])


@pytest.fixture(scope="module")
def whole(sharded):
    """The service of the sharded index in one process."""
    with running(sharded.path) as client:
        yield client


@pytest.fixture(scope="module")
def parts(sharded):
    """A service of each shard."""
    with ExitStack() as stack:
        yield [stack.enter_context(running(shard.path)) for shard in sharded.shards]


@pytest.fixture(scope="module")
def urls(parts):
    """Their addresses."""
    return [part.url for part in parts]


@contextmanager
def routing(urls, encoder, limits=SOON, **options):
    """The service of a router over these parts."""
    with running(Router(urls, str(encoder.folder), **options), limits=limits) as client:
        yield client


@pytest.fixture(scope="module")
def router(urls, encoder):
    """A router over the three parts."""
    with routing(urls, encoder) as client:
        yield client


class Proxy:
    """A port through which a service is reached, until it says nothing more: `silent`. It can change its target."""

    def __init__(self, url) -> None:
        self.target, self.silent, self.drops = url, threading.Event(), threading.Event()
        self.pause = 0.0  # seconds after each byte of an answer
        self.asked = b""  # all requests
        self.server = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self.server.getsockname()[1]}"
        threading.Thread(target=self.accept, daemon=True).start()

    def accept(self):
        """Connect whoever comes with the service."""
        while True:
            try:
                near = self.server.accept()[0]
            except OSError:
                return
            far = Client(self.target).connect()
            for ends in ((near, far, False), (far, near, True)):
                threading.Thread(target=self.copy, args=ends, daemon=True).start()

    def copy(self, source, target, answering):
        """Pass on all bytes, unless nothing is to be said."""
        try:
            source.settimeout(None)
            while piece := source.recv(1 << 16):
                if not answering:
                    self.asked += piece
                while self.silent.is_set():
                    time.sleep(0.01)
                if self.drops.is_set():
                    self.drops.clear()
                    break
                step, pause = (1, self.pause) if answering and self.pause else (len(piece), 0)
                for i in range(0, len(piece), step):
                    target.sendall(piece[i : i + step])
                    time.sleep(pause)
        except OSError:
            pass
        for end in (source, target):
            end.close()


@pytest.fixture
def proxy(urls):
    """A proxy of the second part."""
    made = Proxy(urls[1])
    yield made
    made.silent.clear()
    made.server.close()


def wait_for(condition, seconds=20):
    """Until it holds."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it never held"
        time.sleep(0.01)


def answer(client, path, body):
    """The status and the answer, without its times."""
    reply = client.post(path, body)
    found = reply.json
    found.pop("took_ms", None)
    return reply.status, found


def closed_port():
    """An address at which nothing listens."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        return f"http://127.0.0.1:{server.getsockname()[1]}"


# ---- the same answers

QUERIES = ["parse a date", "clock clock", "strptme", "tiem zone", "nothing of this"]
OPTIONS = [
    {},
    {"where": {"n": {"$lt": 12}}},
    {"ids": ["a1", "b1", "b29", "?"]},
    {"group_by": "g", "k": 4},
    {"min_score": 0.1},
]


@pytest.mark.parametrize("mode", ["late", "words", "hybrid"])
def test_a_sharded_index_is_served(whole, sharded, mode):
    """Its service answers what the index answers in this process, and counts its shards."""
    found = whole.post("/search", {"query": "parse a date", "mode": mode, "k": N}).json
    hits = sharded.search("parse a date", N, mode=mode)
    assert found["hits"] == hits.to_dicts()
    assert whole.get("/info").json["shards"] == 3


def test_what_is_added_to_a_sharded_index_is_served(sharded, encoder, tmp_path):
    """The service moves on to the newest generation of every shard."""
    sharded.snapshot(tmp_path / "copy")
    with running(tmp_path / "copy", limits=SOON) as client:
        with ShardedIndex.open(tmp_path / "copy", encoder) as writer:
            writer.add([{"id": "zebra", "text": "a zebra crosses the road"}])
            writer.delete(["a1"])
            newest = writer.generation
        wait_for(lambda: client.get("/info").json["generation"] == newest)
        found = client.post("/search", {"query": "zebra", "ids": ["a1", "zebra"]}).json["hits"]
        assert [hit["id"] for hit in found] == ["zebra"]


@pytest.mark.parametrize("mode", ["late", "words", "hybrid"])
@pytest.mark.parametrize("options", OPTIONS, ids=str)
def test_answers_equal_those_of_the_sharded_index(router, whole, mode, options):
    """Every hit, score, part of a score and their order are equal to the bit, in every mode with every filter."""
    if mode == "words":
        options = {name: value for name, value in options.items() if name != "min_score"}
    for body in ({"exact": True}, {"nprobe": 1024, "candidates": 1024}):
        asked = {"queries": QUERIES, "mode": mode, **body, **options}
        assert answer(router, "/search_many", asked) == answer(whole, "/search_many", asked)
        asked = {"query": QUERIES[0], "mode": mode, **body, **options}
        status, found = answer(router, "/search", asked)
        assert (status, found) == answer(whole, "/search", asked)
        assert status == 200
        assert found["hits"]


@pytest.mark.parametrize("mode", ["late", "words", "hybrid"])
def test_explanations_equal_those_of_the_sharded_index(router, whole, mode):
    """The part that has the document explains it, with the weights of the collection's words."""
    for name in ("a2", "b1", "b27"):
        asked = {"query": "parse a date of a file and time", "id": name, "mode": mode, "matrix": mode != "words"}
        assert answer(router, "/explain", asked) == answer(whole, "/explain", asked)


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/search", {"query": [[0.1] * 16]}),
        ("/search", {"query": "a", "where": {"$nothing": 1}}),
        ("/search", {"query": [[0.1] * 3]}),
        ("/explain", {"query": "a", "id": "nobody"}),
        ("/rerank", {"query": "a date", "documents": ["parse a date", "a file"]}),
        ("/encode", {"texts": ["parse a date"], "encoding_format": "base64"}),
    ],
)
def test_other_requests_are_answered_alike(router, whole, path, body):
    """Vectors as a query, the model's endpoints and wrong requests have one answer."""
    ours, theirs = answer(router, path, body), answer(whole, path, body)
    for status, found in (ours, theirs):
        found.get("error", {}).pop("request_id", status)
    assert ours == theirs


def test_a_pool_is_read_as_it_was_written():
    """Every array and document keeps its bits, beside others that JSON would round or refuse."""
    scores = np.array([1 / 3, 5e-324, -0.0])
    pool = Pool(np.array([4, 7, 9]), scores, scores[::-1], scores > 0, scores < 1e-300, ())
    documents = [Document(id=name, metadata={"x": [1, None]}) for name in "a\u2028\U0001f600"]
    read, found = wire.pool(from_json(to_json(wire.pool_json(pool, documents))))
    assert found == documents
    for name in ("late", "words", "by_late", "by_words"):
        assert getattr(read, name).tobytes() == getattr(pool, name).tobytes()


def test_many_queries_are_sent_in_several_requests(router, whole, monkeypatch):
    """A batch whose vectors and terms do not fit into one body is cut, and its answers are the same."""
    monkeypatch.setattr(http_parts, "LARGEST_BODY", 50)
    asked = {"queries": QUERIES, "mode": "hybrid", "exact": True}
    assert answer(router, "/search_many", asked) == answer(whole, "/search_many", asked)


def test_a_router_says_what_it_routes(router, whole, urls):
    """/info sums the parts and names them; /ready counts those that answer."""
    ours, theirs = router.get("/info").json, whole.get("/info").json
    for fact in ("documents", "tokens", "generation", "dim", "words", "pool_factor", "encoder", "version"):
        assert ours[fact] == theirs[fact]
    assert [(part["name"], part["answers"]) for part in ours["parts"]] == [(url, True) for url in urls]
    assert router.get("/ready").json == {"status": "ok", "parts": {"answering": 3, "of": 3}}
    assert router.get("/parts/get").status == 404


def test_metrics_have_each_part(router, urls):
    """The time of every part's answers is counted under its address."""
    router.get("/search?q=a")
    text = router.get("/metrics").body.decode()
    assert all(re.search(rf'^refcolbert_part_seconds_count{{part="{url}"}} [1-9]', text, re.MULTILINE) for url in urls)


# ---- parts that fail


def test_a_missing_part_makes_an_answer_partial(urls, whole, proxy, encoder, sharded):
    """A part that says nothing is named, the others answer, and once it speaks again the answer is whole."""
    first = {"query": "parse a date", "exact": True, "k": N}
    own = {name for i in (0, 2) for name in sharded.shards[i].ids()}
    with routing([urls[0], proxy.url, urls[2]], encoder, seconds=2) as client:
        assert answer(client, "/search", first) == answer(whole, "/search", first)
        proxy.silent.set()
        status, found = answer(client, "/search", first)
        assert (status, found["partial"], found["missing"]) == (200, True, [proxy.url])
        assert {hit["id"] for hit in found["hits"]} == own
        Draft202012Validator(schemas.SEARCH).validate(client.post("/search", first).json)
        many = client.post("/search_many", {"queries": ["a", "b"]}).json["results"]
        assert [one["missing"] for one in many] == [[proxy.url]] * 2
        reply = client.post("/explain", {"query": "a", "id": sharded.shards[1].ids()[0]})
        assert (reply.status, reply.code) == (503, "incomplete")
        wait_for(lambda: client.get("/ready").json["parts"]["answering"] == 2)
        proxy.silent.clear()
        wait_for(lambda: client.get("/ready").json["parts"]["answering"] == 3)
        assert answer(client, "/search", first) == answer(whole, "/search", first)


@pytest.mark.parametrize("options", [{"mode": "words"}, {"group_by": "g", "where": {"n": {"$lt": 12}}}], ids=str)
def test_the_others_answer_after_a_part_that_says_nothing(urls, proxy, encoder, options):
    """A silent part takes half of a search's time, so the requests that follow have some too."""
    with routing([urls[0], proxy.url], encoder, {"reload_seconds": 60}, seconds=4) as client:
        proxy.silent.set()
        found = client.post("/search", {"query": "parse a date", **options}).json
        assert found["missing"] == [proxy.url]
        assert found["hits"]


def test_all_requests_of_a_search_have_one_deadline(urls, proxy, encoder):
    """A search with misspelt words asks each part three times, and gives it half of the time that is left."""
    with routing([urls[0], proxy.url], encoder, {"reload_seconds": 60}, seconds=8) as client:
        assert client.post("/search", {"query": "strptme", "mode": "hybrid", "where": {"n": 1}}).status == 200
    told = [float(seconds) for seconds in re.findall(rb'"seconds":([0-9.e-]+)', proxy.asked)]
    assert len(told) == 3
    assert 4 > told[0] > told[1] > told[2]


def test_complete_refuses_a_partial_answer(urls, proxy, encoder):
    """The error names the part that is missing."""
    with routing([urls[0], proxy.url], encoder, seconds=2, complete=True) as client:
        assert client.get("/search?q=a").status == 200
        proxy.silent.set()
        reply = client.get("/search?q=a")
        assert (reply.status, reply.code) == (503, "incomplete")
        assert proxy.url in reply.json["error"]["message"]
        wait_for(lambda: client.get("/ready").status == 503)


def test_no_part_is_no_answer(proxy, encoder):
    """If every part is missing, the answer is an error and not an empty list."""
    with routing([proxy.url], encoder, seconds=0.3) as client:
        proxy.silent.set()
        for mode in ("late", "words", "hybrid"):
            assert client.get(f"/search?q=a&mode={mode}").code == "incomplete"


def test_a_part_that_begins_an_answer_and_never_ends_is_missing(urls, proxy, encoder):
    """The time of a part is for its whole answer, however slowly bytes come."""
    with routing([urls[0], proxy.url], encoder, {"reload_seconds": 60}, seconds=2) as client:
        proxy.pause = 0.02
        assert client.get("/search?q=a").json["missing"] == [proxy.url]


def test_another_replica_answers_if_one_cannot_be_reached(urls, whole, encoder):
    """One of each two addresses is dead; no answer is partial."""
    pairs = [f"{closed_port()}|{url}" if i else f"{url}|{closed_port()}" for i, url in enumerate(urls)]
    with routing(pairs, encoder) as client:
        for _ in range(4):
            asked = {"query": "parse a date", "mode": "hybrid", "exact": True}
            assert answer(client, "/search", asked) == answer(whole, "/search", asked)


def test_another_replica_is_asked_while_one_is_slow(urls, proxy, encoder):
    """After the 95th percentile of the last answers the other replica gets the request too, and its answer is used."""
    pair = f"{proxy.url}|{urls[1]}"
    with routing([urls[0], pair], encoder, {"reload_seconds": 60}, seconds=20) as client:
        for _ in range(http_parts.LEAST_OBSERVED):
            client.get("/search?q=a")
        proxy.silent.set()
        start = time.monotonic()
        found = [client.get("/search?q=a").json for _ in range(4)]
        assert time.monotonic() - start < 20
        assert not any("partial" in one for one in found)
        text = client.get("/metrics").body.decode()
    assert float(re.search(r"refcolbert_part_hedges_total{.*} (.*)", text)[1]) >= 2


def test_a_service_may_restart(urls, sharded, whole, encoder):
    """Connections that the old process closed are not an error."""
    asked = {"query": "parse a date", "exact": True}
    with ExitStack() as stack:
        part = stack.enter_context(running(sharded.shards[1].path))
        client = stack.enter_context(routing([urls[0], part.url, urls[2]], encoder, {"reload_seconds": 60}))
        assert answer(client, "/search", asked) == answer(whole, "/search", asked)
        part.server.should_exit = True
        wait_for(lambda: refuses(part.port))
        stack.enter_context(running(sharded.shards[1].path, port=part.port))
        assert answer(client, "/search", asked) == answer(whole, "/search", asked)


def test_a_connection_may_close_while_a_request_is_sent(urls, proxy, whole, encoder):
    """A service closes idle connections, and one may close at the same time as a request leaves: it is sent again."""
    asked = {"query": "parse a date", "exact": True}
    with routing([urls[0], proxy.url, urls[2]], encoder, {"reload_seconds": 60}) as client:
        assert answer(client, "/search", asked) == answer(whole, "/search", asked)
        proxy.drops.set()
        assert answer(client, "/search", asked) == answer(whole, "/search", asked)
        assert not proxy.drops.is_set()


def refuses(port):
    """True if nothing listens there."""
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) != 0


# ---- parts that do not belong together


@pytest.fixture(scope="module")
def stranger(tmp_path_factory):
    """A service of ready-made vectors."""
    path = tmp_path_factory.mktemp("stranger") / "i"
    Index.create(path, dim=16, words="porter").close()
    with running(path) as client:
        yield client


def test_parts_of_another_model_are_refused_at_start(urls, stranger, encoder):
    """The service that differs is named, with what differs."""
    with pytest.raises(InvalidInput, match=f"{stranger.url} has model None, not {encoder.hash[:12]}"):
        Router([urls[0], f"{urls[1]}|{stranger.url}"], str(encoder.folder))


def test_parts_of_another_version_are_refused_at_start(urls, sharded, encoder, monkeypatch):
    """Versions may score differently."""
    monkeypatch.setattr(reload, "__version__", "0.0.9")
    with running(sharded.shards[1].path) as old, pytest.raises(InvalidInput, match=f"{old.url} has version 0.0.9"):
        Router([urls[0], old.url], str(encoder.folder))


@pytest.mark.parametrize(
    ("limit", "option"), [("k", "--max-k"), ("characters", "--max-characters"), ("body_bytes", "--max-body-bytes")]
)
def test_parts_of_lower_limits_are_refused_at_start(urls, sharded, encoder, limit, option):
    """Such a part would refuse what the router accepts; a higher limit does no harm."""
    least = getattr(ServiceLimits(), limit)
    with running(sharded.shards[1].path, limits={limit: least - 1}) as low:
        with pytest.raises(InvalidInput, match=f"{low.url} has {option} {least - 1}, less than {least}"):
            Router([urls[0], low.url], str(encoder.folder))
        assert Router([urls[0], low.url], str(encoder.folder), ServiceLimits(**{limit: least - 1})).readiness()


@pytest.mark.parametrize("seconds", [0, float("nan"), float("inf")])
def test_a_router_refuses_times_that_are_no_deadline(urls, encoder, seconds):
    """Nothing would be late after NaN seconds, or everything."""
    with pytest.raises(InvalidInput, match=f"expected seconds above 0 and below 2\\*\\*31, found {seconds}"):
        Router(urls, str(encoder.folder), seconds=seconds)


def test_a_router_needs_the_model_of_its_parts(urls):
    """Another model would encode queries into another space."""
    with pytest.raises(EncoderMismatch, match="--model"):
        Router(urls)


def test_a_part_that_changes_its_model_is_missing(urls, proxy, stranger, encoder):
    """A service with other settings refuses to answer, and /info says that the part is not there."""
    with routing([urls[0], proxy.url], encoder, {"reload_seconds": 60}) as client:
        proxy.target = stranger.url
        client.live.now.index.parts[proxy.url].replicas[0].forget()
        assert client.get("/search?q=a").json["missing"] == [proxy.url]
        client.live.refresh()
        assert client.get("/ready").json["parts"] == {"answering": 1, "of": 2}
        assert "model None" in client.live.now.index.parts[proxy.url].replicas[0].problem


def test_parts_that_cannot_be_reached_at_start_are_named(urls, encoder):
    """The router waits for a while, then says which service is not there."""
    gone = closed_port()
    with pytest.raises(MissingPart, match=f"expected 2 parts that answer, found 1 .{gone}: .*refused"):
        Router([urls[0], gone], str(encoder.folder), patience=0.2)


def test_the_router_waits_for_parts_that_start(sharded, encoder):
    """Services and their router can be started at the same time."""
    port = int(closed_port().rpartition(":")[2])
    starting = []

    def start():
        time.sleep(0.3)
        starting.append(running(sharded.shards[0].path, port=port))
        starting[0].__enter__()

    thread = threading.Thread(target=start)
    thread.start()
    try:
        assert Router([f"http://127.0.0.1:{port}"], str(encoder.folder), patience=20).readiness()
    finally:
        thread.join()
        starting[0].__exit__(None, None, None)


@pytest.mark.parametrize("url", ["a:8000", "ftp://a", "http://", "http://user@a", "http://a|"])
def test_a_wrong_address_is_refused(url):
    """The message shows one that is right."""
    with pytest.raises(InvalidInput, match="such as http://a:8000"):
        Router([url])


def test_a_service_is_one_part_only(urls):
    """Its documents would be found twice."""
    with pytest.raises(InvalidInput, match="twice"):
        Router([urls[0], f"{urls[1]}|{urls[0]}/"])


# ---- who may ask, and for how long


def test_the_router_brings_the_token_of_the_parts(sharded, encoder):
    """Parts refuse a router without their token."""
    with running(sharded.shards[0].path, token=TOKEN) as part:
        assert Client(part.url).post("/parts/get", {"ids": []}).status == 401
        with pytest.raises(MissingPart, match=r"401.*--part-token-file"):
            Router([part.url], str(encoder.folder), patience=0)
        with routing([part.url], encoder, token=TOKEN) as client:
            assert client.get("/search?q=a").json["hits"]


def test_a_part_gives_up_when_the_router_does(parts, router):
    """The router says how long it waits, and a part computes no answer that comes later."""
    settings = next(iter(router.live.now.index.parts.values())).settings
    reply = parts[0].post("/parts/get", {"ids": ["a1"], "settings": settings, "seconds": 0})
    assert (reply.status, reply.code) == (503, "timeout")


@pytest.mark.parametrize(
    "query",
    [{"vectors": "AAA"}, {"vectors": "AAAA"}, {"vectors": "AADAfw=="}, {"words": {"terms": []}}, {"more": 1}],
)
def test_a_wrong_request_to_a_part_is_refused(parts, router, query):
    """Whoever sends it, it is an error of the request."""
    settings = next(iter(router.live.now.index.parts.values())).settings
    fields = {"k": 1, "nprobe": 1, "candidates": 1, "exact": True, "settings": settings, "seconds": 9}
    assert parts[0].post("/parts/pools", {"queries": [query], **fields}).code == "invalid_input"


@pytest.mark.parametrize(
    "fields",
    [{"terms": ["AAA"], "similar": []}, {"terms": [], "similar": ["A" * 36]}, {"terms": [], "similar": ["AAAA"] * 513}],
)
def test_terms_that_cannot_be_counted_are_refused(parts, router, fields):
    """They are base64, and those for which hundreds of others are counted are few and short."""
    settings = next(iter(router.live.now.index.parts.values())).settings
    assert parts[0].post("/parts/counts", {**fields, "settings": settings, "seconds": 9}).code == "invalid_input"


# ---- the command


def test_the_command_serves_parts(urls, encoder, tmp_path):
    """`serve --shards URL URL` answers like a service."""
    program = "from refcolbert.cli import main; main()"
    said = tmp_path / "stderr"
    command = [sys.executable, "-c", program, "serve", "--shards", *urls, "--port", "0", "--model", str(encoder.folder)]
    with said.open("wb") as stderr, subprocess.Popen(command, stderr=stderr) as process:
        try:
            wait_for(lambda: b"is served at" in said.read_bytes() or process.poll() is not None, 60)
            client = Client(re.search(r"3 parts is served at (\S+)", said.read_text())[1])
            assert client.get("/search?q=parse").json["hits"]
        finally:
            process.terminate()
    assert process.returncode == 0


def test_two_indexes_without_shards_are_an_error():
    """The message names the option."""
    assert "--shards" in CliRunner().invoke(main, ["serve", "a", "b"]).output


# ---- machines


@pytest.fixture
def machine():
    """A machine of its own address, whose link can be cut."""
    with another_machine() as machine:
        yield machine


def test_a_machine_that_is_cut_off_is_missing(urls, machine, sharded, encoder, tmp_path):
    """Its packets are lost while searches run: they end with partial answers, and are whole when it is back."""
    token = tmp_path / "token"
    token.write_text(TOKEN)
    serve = [sys.executable, "-c", "from refcolbert.cli import main; main()", "serve", str(sharded.shards[1].path)]
    command = [*machine.inside, *serve, "--host", machine.address, "--token-file", str(token)]
    with subprocess.Popen(command) as process:
        try:
            far = f"http://{machine.address}:8000"
            with routing([urls[0], far], encoder, token=TOKEN, seconds=1, patience=60) as client:
                assert "partial" not in client.get("/search?q=a").json
                threading.Timer(0.3, machine.reachable, [False]).start()
                found = []
                wait_for(lambda: found.append(client.get("/search?q=a").json) or "partial" in found[-1])
                assert found[-1]["missing"] == [far]
                assert found[-1]["hits"]
                machine.reachable(True)
                wait_for(lambda: "partial" not in client.get("/search?q=a").json)
        finally:
            process.terminate()
