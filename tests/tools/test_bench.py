"""The benchmarks' own parts: figures, verdict, engines in processes of their own, the corpus that grows."""

import json
import shutil
from dataclasses import replace

import numpy as np
import pytest
from strategies import topical, unit

from refcolbert import Document, Encoder, Index, Ragged
from refcolbert.engine.maxsim import scores
from refcolbert.engine.search import SearchOptions, search
from refcolbert.engine.topk import top_k
from refcolbert.errors import InvalidInput
from tools.bench import busy, end_to_end, grown, pages, updates
from tools.bench.engines import ENGINES
from tools.bench.figures import Line, matches, ndcg, recall
from tools.bench.grown import BLOCK, TOKENS, Grown, Scan
from tools.bench.search import Bench, report
from tools.bench.stages import Work, counted, left, measured
from tools.bench.vectors import _equal_rows, write_corpus, write_tokens
from tools.collections import Collection

DIM, N_DOCS = 16, 300
DOCUMENTS = topical(np.random.default_rng(4), N_DOCS, DIM)
QUERIES = np.stack([unit(np.random.default_rng(i), 6, DIM) for i in range(12)])  # [n_queries, n_q, dim]


@pytest.fixture(scope="module")
def corpus(tmp_path_factory):
    """A tiny corpus whose only relevant document is each query's best."""
    best = [int(top_k(scores(q, DOCUMENTS), 1)[0]) for q in QUERIES]
    return write_corpus(tmp_path_factory.mktemp("bench"), DOCUMENTS, QUERIES, [{number: 1} for number in best])


def test_queries_that_do_not_fit_are_left_out():
    """The peers are asked queries of equally many rows: those of the expansion length, else the commonest."""
    queries = [np.full((n, DIM), n, np.float32) for n in (6, 4, 6, 9)]
    for n_rows in (6, None):
        numbers, vectors = _equal_rows(queries, n_rows)
        assert numbers.tolist() == [0, 2]
        assert vectors.shape == (2, 6, DIM)
    assert _equal_rows(queries, 4)[0].tolist() == [1]
    with pytest.raises(InvalidInput, match="no query has 5 rows"):
        _equal_rows(queries, 5)


def test_token_ids_are_those_of_the_vectors(tmp_path):
    """Each row has the id of the token that it encodes when dropped tokens have none; other texts are refused."""
    texts, encoder = ["Read a file, line by line.", "Dates"], Encoder.load()
    corpus = write_corpus(tmp_path, encoder.encode_documents(texts), np.empty((0, 0, encoder.dim), np.float32), [])
    write_tokens(corpus, texts, None)
    found = [encoder.tokenizer.token(i) for i in np.load(tmp_path / "tokens.npy")]
    assert found == [label for text in texts for label in encoder.document_labels(text)[0]]
    with pytest.raises(InvalidInput, match="do not fit its vectors"):
        write_tokens(corpus, texts[::-1], None)


def line(recall10, p50, engine="x"):
    """A line with nothing but what the verdict looks at."""
    return Line(engine, {}, p50, 0.0, 0.0, recall10, 0.0, 0.0)


def test_recall_and_ndcg_by_hand():
    """Recall counts the first k of both sides, nDCG discounts by rank, when the answers are written down."""
    truth = np.array([[1, 2, 3], [4, 5, 6]])
    assert recall([[2, 9, 1], [7, 8, 9]], truth, 2) == pytest.approx(1 / 4)
    assert recall([[3, 2, 1], [4]], truth, 3) == pytest.approx(4 / 6)
    assert ndcg([[9, 1], [4]], [{1: 1}, {4: 1}]) == pytest.approx((1 / np.log2(3) + 1) / 2)


def test_a_peer_meets_our_fastest_setting_that_is_as_good():
    """A line meets the fastest of ours that is at most the tolerance below, or none, when ours are of many kinds."""
    ours = [line(0.80, 1.0), line(0.896, 5.0), line(0.90, 4.0), line(0.95, 9.0)]
    found = [mine and mine.p50 for _, mine in matches([line(0.90, 0), line(0.905, 0), line(0.906, 0)], ours)]
    assert found == [4.0, 4.0, 9.0]
    assert matches([line(0.96, 0)], ours)[0][1] is None


def test_engines_run_in_processes_of_their_own(corpus):
    """Brute force finds the truth and our index, asked for every document, too, when both are run by the tool."""
    bench = Bench(corpus, nbits=8, n_queries=8)
    brute = ENGINES["brute force"]
    ours = replace(ENGINES["refcolbert"], points=[{"nprobe": 1, "candidates": 10}, {"exact": True}])
    for engine in (brute, ours):
        bench.measure(engine)
    (exact,) = bench.lines(brute)
    assert (exact.recall10, exact.recall100, exact.ndcg10) == (1, 1, 1)
    little, much = bench.lines(ours)
    assert little.recall10 < much.recall10
    assert much.recall10 > 0.9  # 8 bits lose next to nothing
    built = bench.built(ours)
    assert built["seconds"] > 0
    assert built["bytes"] > len(DOCUMENTS.vectors) * DIM  # 8 bits a component, and what comes on top
    text = "\n".join(report(bench, {"brute force": brute, "refcolbert": ours}))
    assert f"{N_DOCS} documents" in text
    assert "| refcolbert | nprobe 1, candidates 10 |" in text


def test_what_is_measured_is_not_measured_again(corpus):
    """A result on disk stands when the engine is measured again without asking for it afresh."""
    bench = Bench(corpus, nbits=8, n_queries=4)
    bench.measure(ENGINES["brute force"])
    first = bench.searched(ENGINES["brute force"])
    bench.measure(ENGINES["brute force"])
    assert bench.searched(ENGINES["brute force"]) == first
    bench.measure(ENGINES["brute force"], again=True)
    assert bench.searched(ENGINES["brute force"]) != first  # times differ in some digit


def test_the_version_that_was_measured_is_named(corpus):
    """An engine's note begins with the version in its results when they hold one."""
    bench = Bench(corpus, nbits=8, n_queries=3)
    brute = ENGINES["brute force"]
    bench.measure(brute)
    (path,) = bench.folder.glob("*.search.json")
    path.write_text(json.dumps({**bench.searched(brute), "version": "9.8"}))
    assert f"brute force 9.8: {brute.note}" in report(bench, {"brute force": brute})


def test_a_grown_corpus_is_the_same_at_every_call(corpus):
    """Blocks are unit vectors near real tokens and repeat, and other seeds give others, when made twice."""
    some = Grown(corpus, BLOCK + 7)
    block = some.block(1)
    assert block.shape == (7, TOKENS, DIM)
    assert np.array_equal(block, some.block(1))
    assert not np.array_equal(block, Grown(corpus, BLOCK + 7, seed=1).block(1))
    np.testing.assert_allclose(np.linalg.norm(block, axis=2), 1, atol=1e-6)
    nearest = (block.reshape(-1, DIM) @ DOCUMENTS.vectors.T).max(axis=1)  # [7 * TOKENS]
    assert nearest.mean() > 0.9


def test_an_interrupted_scan_goes_on(corpus, tmp_path, monkeypatch):
    """The exact answer is that of one scan over everything when the scan stops after its first block."""
    monkeypatch.setattr(grown, "SAVE_EVERY", 1)
    some = Grown(corpus, BLOCK + 50)
    stopped = Scan(Grown(corpus, BLOCK), QUERIES[:3], tmp_path / "truth.npz")
    stopped.run()
    resumed = Scan(some, QUERIES[:3], tmp_path / "truth.npz")
    assert resumed.done == 1
    everything = Ragged.from_list(list(some.vectors()))
    assert len(everything) == BLOCK + 50
    expected = [top_k(scores(q, everything), 10) for q in QUERIES[:3]]
    assert np.array_equal(resumed.run()[:, :10], expected)


def test_stages_are_beside_what_they_must_do(tmp_path):
    """A stage's products and bytes are those of what a search's trace says it read; the bound is the larger time."""
    path = tmp_path / "i"
    documents = [{"id": str(i)} for i in range(N_DOCS)]
    Index.build(path, documents, vectors=iter(DOCUMENTS), dim=DIM, nbits=8, train_at=1).close()
    with Index.open(path) as index:
        work = measured(QUERIES[:1], index.segmented, 2, 40)
        trace = search(QUERIES[0], index.segmented, 10, SearchOptions(nprobe=2, candidates=40)).trace
    n_q = QUERIES.shape[1]
    assert {name: did.out for name, did in work.items()} == {stage.name: [stage.count] for stage in trace}
    read = {stage.name: stage.read for stage in trace}
    assert work["rank"].products == [read["rank"] * DIM * n_q]
    assert work["prune"].products == [0]
    assert work["prune"].moved == [read["prune"] * (2 + n_q)]
    assert work["centroids"].moved == [read["centroids"] * 4 * DIM]
    assert work["refine"].moved == [read["refine"] * (DIM + 5)]
    rows = counted({"rank": Work([4.0], [10], [3_000_000], [2_000_000])}, 2.0, 1.0)
    assert rows[2:] == ["| rank | 10 | 4.00 | 3 | 2.0 | 3.00 | 75% |"]
    assert counted({"rank": Work([4.0], [10], [3_000_000], [2_000_000])}, 9.0, 1.0)[2].endswith("| 2.00 | 50% |")


def test_exact_answers_are_lost_stage_by_stage(tmp_path):
    """No later stage has more of them than an earlier one; where every cell is probed, candidates have all."""
    path = tmp_path / "i"
    documents = ({"id": str(i)} for i in range(N_DOCS))
    Index.build(path, documents, vectors=iter(DOCUMENTS), dim=DIM, nbits=1, train_at=1).close()
    truth = np.array([top_k(scores(q, Ragged.from_list(list(DOCUMENTS))), 10) for q in QUERIES])
    with Index.open(path) as index:
        for nprobe, keep in ((1, 12), (10**6, 40)):
            shares = left(QUERIES, index.segmented, truth, SearchOptions(nprobe=nprobe, candidates=keep, widen=False))
            assert list(shares) == ["candidates", "prune", "refine", "rank"]
            assert list(shares.values()) == sorted(shares.values(), reverse=True)
            assert shares["rank"] < 1
    assert shares["candidates"] == 1


def test_a_line_of_the_busy_table_has_its_quiet_median_and_three_ratios(tmp_path):
    """A line is measured quiet and beside a process that takes a core, and that process ends with it."""
    Index.build(tmp_path / "i", ({"id": str(i)} for i in range(N_DOCS)), vectors=iter(DOCUMENTS), dim=DIM).close()
    with Index.open(tmp_path / "i") as index:
        figures = busy.line(index, QUERIES, "default", threads=1, rounds=1)
    assert len(["default", 1, 1, *figures]) == len(busy.COLUMNS)
    assert min(figures) > 0


def test_queries_are_asked_end_to_end(encoder, tmp_path):
    """Collections are one index, whose row has a share of 1 when all is found, and the sum of both times."""
    collections = [
        Collection(
            name, [Document(id=str(i), text=text) for i, text in enumerate(texts)], {"q": texts[1]}, {"q": {"1": 1}}
        )
        for name, texts in {"a": ["parse a date", "read a file"], "b": ["the line of a wing", "a string"]}.items()
    ]
    joined = end_to_end.asked(collections, 2)
    assert list(joined.queries) == ["a/q", "b/q"]
    tiny = str(encoder.folder)
    for name in (tiny, f"{tiny}+{tiny}"):  # the second time from the work folder
        model = end_to_end.Model(name, joined, tmp_path)
        model.ask(2, 96)
    assert model.name == "tiny+tiny"
    line = dict(zip(end_to_end.COLUMNS, model.line(2, 96), strict=True))
    assert (line["recall@10"], line["nDCG@10"], line["columns"]) == (1.0, 1.0, encoder.dim)
    assert line["p95 ms"] >= line["together, p50 ms"] > line["encoding, p50 ms"] > 0


def test_small_updates_write_as_much_whatever_the_size_of_the_index(tmp_path):
    """Ten times as many documents change the bytes of an update by less than a tenth."""
    written = []
    for n in (100, 1000):
        updates.build(tmp_path / f"{n}", n)
        rows = updates.measure(tmp_path / f"{n}", times=2)
        assert all(len(row) == len(updates.COLUMNS) for row in rows)
        written.append([row[updates.COLUMNS.index("KiB written, p50")] for row in rows[:3]])
    assert written[1] == pytest.approx(written[0], rel=0.1)


def test_recording_changes_the_rows_and_nothing_of_the_layout(tmp_path, monkeypatch):
    """A table that is recorded with the rows that it has keeps every line but date and versions."""
    shutil.copytree(pages.ROOT / "benchmarks", tmp_path / "benchmarks")
    path = tmp_path / "benchmarks" / "19-updates.json"
    before = path.read_text()
    monkeypatch.setattr(pages, "ROOT", tmp_path)
    pages.record(path.name, json.loads(before)["rows"])
    changed = [a for a, b in zip(before.splitlines(), path.read_text().splitlines(), strict=True) if a != b]
    assert all('"date"' in each or '"versions"' in each for each in changed)
