"""Each system of the comparison answers what its library or the definition answers, and counts what it multiplies."""

import bm25s
import numpy as np
import pytest
import Stemmer
from compare_parts import QRELS, QUERIES, TEXTS, write_collection, write_cross_encoder, write_sentence_encoder

from refcolbert import definition
from refcolbert.evaluation.metrics import evaluate
from refcolbert_export.cross_encoder import CrossEncoder
from refcolbert_export.mining.teachers import BiEncoder
from tools.collections import load
from tools.compare import parts as parts_module
from tools.compare.flops import by_hand, cost_of
from tools.compare.measure import TOP, measure, sample
from tools.compare.parts import RAW, Models, Parts, cross_encoder, token_vectors
from tools.compare.sentences import Sentences, export_sentences
from tools.compare.systems import SYSTEMS, late
from tools.compare.systems.answers import DEPTH, RRF, Answer, fuse
from tools.compare.systems.combined import colbert_reranks, cross_encoder_reranks

BY_NAME = {system.name: system for system in SYSTEMS}
TEXT = QUERIES["q3"]


@pytest.fixture(scope="module")
def folders(transformer, tmp_path_factory):
    """Folders of the tiny collection, the sentence encoder and its export, the exported cross-encoder."""
    folder = tmp_path_factory.mktemp("compare")
    write_collection(folder / "tiny")
    source = write_sentence_encoder(folder / "sentences-source")
    export_sentences(source, folder / "sentences")
    _, cross = write_cross_encoder(transformer, folder / "cross")
    return {"data": folder, "source": source, "sentences": folder / "sentences", "cross": cross}


@pytest.fixture(scope="module")
def models(folders, encoder):
    """The three models."""
    return Models(encoder, Sentences(folders["sentences"], 1), cross_encoder(folders["cross"], 1))


@pytest.fixture(scope="module")
def parts(folders, models, tmp_path_factory):
    """The collection as systems see it."""
    found = Parts(load(folders["data"], "tiny"), models, tmp_path_factory.mktemp("work"), lambda _: None)
    yield found
    found.close()


def ask(parts, name, text=TEXT, k=DEPTH):
    """The answer of a system to one query."""
    return BY_NAME[name].ask(parts, text, k)


def ranking(scores, k=DEPTH):
    """Numbers of documents by score, equal ones by number, as the definition sorts."""
    return definition.top_k([float(score) for score in scores], min(k, len(scores)))


def test_bm25_is_bm25s(parts):
    """Documents and scores are those of bm25s' own retrieval; what shares no word is not answered."""
    stemmer = Stemmer.Stemmer("english")
    index = bm25s.BM25(method="lucene", k1=0.9, b=0.4)
    index.index(bm25s.tokenize(TEXTS, stopwords="en", stemmer=stemmer, show_progress=False), show_progress=False)
    words = bm25s.tokenize([TEXT], stopwords="en", stemmer=stemmer, show_progress=False)
    documents, scores = index.retrieve(words, k=len(TEXTS), show_progress=False)
    found = ask(parts, "bm25")
    n = int((scores[0] > 0).sum())
    assert n == len(found.documents) > 2
    assert set(found.documents) == set(documents[0][:n])
    np.testing.assert_allclose(found.scores, scores[0][:n], rtol=1e-5)
    assert len(ask(parts, "bm25", QUERIES["q6"]).documents) == 0


def test_the_exported_sentence_encoder_is_the_checkpoint(folders, models):
    """ONNX rows equal those of the torch teacher at every length, cut where it cuts; nothing depends on the batch."""
    texts = [*TEXTS, "", "the wing and " * 40]
    for length in (8, 256):
        expected = BiEncoder(folders["source"]).encode(texts, length)
        np.testing.assert_allclose(models.sentences.encode(texts, length), expected, atol=1e-5)
    assert models.sentences.lengths([texts[-1]], 8) == [8]
    np.testing.assert_allclose(
        models.sentences.encode([TEXT])[0], models.sentences.encode([*texts, TEXT])[-1], atol=1e-5
    )


def test_the_bi_encoder_is_a_ranking_by_cosine(parts, folders):
    """Flat and graph give the order of the teacher's cosines; among so few documents the graph misses none."""
    teacher = BiEncoder(folders["source"])
    cosines = teacher.encode(TEXTS, 256) @ teacher.encode([TEXT], 256)[0]
    for name in ("bi-encoder-flat", "bi-encoder-ann"):
        for k in (3, DEPTH):
            found = ask(parts, name, k=k)
            assert found.documents.tolist() == ranking(cosines, k)
            np.testing.assert_allclose(found.scores, np.sort(cosines)[::-1][:k], atol=1e-5)


def test_a_graph_is_read_back(parts, folders, models):
    """A later process finds the same graph in its file."""
    found = ask(parts, "bi-encoder-ann")
    again = Parts(parts.collection, models, parts.work, lambda _: None)
    assert ask(again, "bi-encoder-ann").documents.tolist() == found.documents.tolist()


def test_raw_colbert_is_the_definition(parts, encoder):
    """Exact and two-phase search give the definition's MaxSim of the encoder's rows, rounded to float16."""
    (q,) = encoder.encode_queries([TEXT])
    rows = [d.astype(RAW).tolist() for d in encoder.encode_documents(TEXTS)]
    scores = definition.scores(q.tolist(), rows)
    for name in ("colbert-raw-exact", "colbert-raw-two-phase"):
        found = ask(parts, name)
        assert found.documents.tolist() == ranking(scores), name
        np.testing.assert_allclose(found.scores, sorted(scores)[::-1], rtol=1e-6)


def test_two_phases_rank_what_centroids_choose(parts, monkeypatch):
    """With few candidates only those are ranked, by their raw vectors; that is cheaper, and may miss some."""
    whole = ask(parts, "colbert-raw-two-phase", k=2)
    exact = ask(parts, "colbert-raw-exact")
    monkeypatch.setattr(late, "CANDIDATES", 4)
    found = ask(parts, "colbert-raw-two-phase", k=2)
    scores = dict(zip(exact.documents.tolist(), exact.scores, strict=True))
    assert [scores[i] for i in found.documents.tolist()] == pytest.approx(found.scores.tolist())
    assert found.flops < whole.flops
    assert len(ask(parts, "colbert-raw-two-phase", k=6).documents) == 6


@pytest.mark.parametrize("nbits", [1, 2, 4])
def test_compressed_colbert_is_the_definition_on_what_is_stored(parts, encoder, nbits):
    """Scores are MaxSim of the query with the vectors that the index decodes."""
    (q,) = encoder.encode_queries([TEXT])
    collection = parts.index(nbits).segmented
    rows = [d.tolist() for d in collection.vectors(np.arange(len(TEXTS)))]
    scores = definition.scores(q.tolist(), rows)
    found = ask(parts, f"colbert-{nbits}-bit{'s' if nbits > 1 else ''}")
    assert found.documents.tolist() == ranking(scores)
    np.testing.assert_allclose(found.scores, sorted(scores)[::-1], rtol=1e-5)


def test_colbert_reranks_what_bm25_found(parts, encoder):
    """BM25's first documents by MaxSim, the rest behind them in BM25's order, whatever the depth."""
    first = ask(parts, "bm25").documents.tolist()
    (q,) = encoder.encode_queries([TEXT])
    vectors = parts.index(4).segmented.vectors(np.array(sorted(first)))
    scores = dict(zip(sorted(first), definition.scores(q.tolist(), [d.tolist() for d in vectors]), strict=True))
    for depth in (2, 3, 1000):
        found = colbert_reranks(parts, TEXT, DEPTH, depth=depth)
        best = sorted(first[:depth], key=lambda i: -scores[i])
        assert found.documents.tolist() == [*best, *first[depth:]]
        np.testing.assert_allclose(found.scores[:depth], [scores[i] for i in best], rtol=1e-5)
        assert (np.diff(found.scores) <= 0).all()
    assert len(colbert_reranks(parts, QUERIES["q6"], DEPTH, depth=2).documents) == 0


def test_the_cross_encoder_reranks_what_bm25_found(parts, folders):
    """By the scores of `CrossEncoder` on the pairs of query and text; what is deeper stays behind."""
    first = ask(parts, "bm25").documents.tolist()
    scores = CrossEncoder.load(folders["cross"], threads=1).score(TEXT, [TEXTS[i] for i in first])
    assert len(set(np.round(scores, 4))) > 2
    for depth in (3, 100):
        found = cross_encoder_reranks(parts, TEXT, DEPTH, depth=depth)
        best = [first[i] for i in ranking(scores[:depth])]
        assert found.documents.tolist() == [*best, *first[depth:]]
        np.testing.assert_allclose(found.scores[: len(best)], np.sort(scores[:depth])[::-1], atol=1e-5)
    assert len(cross_encoder_reranks(parts, QUERIES["q6"], DEPTH, depth=3).documents) == 0


def answer(documents):
    """An answer with these documents."""
    n = len(documents)
    return Answer(np.array(documents, np.int64), -np.arange(n, dtype=float), 1.0, 2.0, 3)


def test_fusion_adds_reciprocal_ranks():
    """Sums of 1 / (60 + rank), equal ones by number; times and FLOPs of both count."""
    found = fuse(answer([7, 3, 5]), answer([5, 9]), 10)
    expected = {5: 1 / 63 + 1 / 61, 7: 1 / 61, 3: 1 / 62, 9: 1 / 62}
    assert found.documents.tolist() == [5, 7, 3, 9]
    np.testing.assert_allclose(found.scores, [expected[i] for i in found.documents])
    assert (RRF, found.encode, found.flops) == (60, 2.0, 6)
    assert found.search >= 4
    assert fuse(answer([]), answer([2]), 10).documents.tolist() == [2]
    assert fuse(answer([7, 3]), answer([3]), 1).documents.tolist() == [3]


def test_hybrids_fuse_their_systems(parts):
    """Each hybrid is the fusion of the two answers in its name."""
    pairs = {
        "hybrid-bm25-bi-encoder": ("bm25", "bi-encoder-flat"),
        "hybrid-bm25-colbert": ("bm25", "colbert-4-bits"),
        "hybrid-bi-encoder-colbert": ("bi-encoder-flat", "colbert-4-bits"),
    }
    for name, (one, other) in pairs.items():
        expected = fuse(ask(parts, one), ask(parts, other), 5)
        assert ask(parts, name, k=5).documents.tolist() == expected.documents.tolist()


def test_flops_of_the_graphs_are_those_of_their_shapes(folders, encoder):
    """Of bi-encoder, cross-encoder and ColBERT: the head of a cross-encoder once a text."""
    assert cost_of(folders["sentences"]) == by_hand(2, 24, 40)
    assert cost_of(folders["cross"]) == by_hand(2, 32, 64, once=32 * 32 + 32)
    assert cost_of(encoder.folder) == by_hand(2, 32, 64, head=32 * encoder.dim)


def test_flops_of_an_answer_by_hand(parts, encoder):
    """Encoding, and products of query rows with what is compared: documents, tokens, centroids, pairs."""
    costs, n = parts.models.costs, len(TEXTS)
    (words,) = parts.models.sentences.lengths([TEXT])
    assert ask(parts, "bi-encoder-flat").flops == costs["sentences"].flops([words]) + 2 * n * 24
    (q,) = encoder.encode_queries([TEXT])
    own, tokens = costs["encoder"].flops([len(q)]), int(parts.index(RAW).info()["tokens"])
    assert ask(parts, "colbert-raw-exact").flops == own + 2 * q.size * tokens
    n_centroids = len(parts.index(4).segmented.codec.centroids)
    assert ask(parts, "colbert-4-bits").flops == own + 2 * q.size * (tokens + n_centroids)
    found, cross = ask(parts, "cross-encoder-reranks-bm25-100"), parts.models.cross
    pairs = cross.scorer.tokenizer.pairs([(TEXT, TEXTS[i]) for i in found.documents])
    assert found.flops == sum(cross.cost.flops([len(pair.ids)]) for pair in pairs)
    assert ask(parts, "bm25").flops == 0


@pytest.mark.parametrize("name", list(BY_NAME))
def test_every_system_is_measured(parts, name):
    """Metrics stand at their query's id and are those of the run; times and sizes are there for every query."""
    queries = sample(parts.collection.queries, 5, 1)
    found, run = measure(BY_NAME[name], parts, queries)
    assert list(run) == list(found["queries"]) == list(queries)
    judged = {query: QRELS[query] for query in queries}
    for metric in ("R@50", "R@1000"):
        assert list(found["metrics"][metric]) == list(queries)
        for query in queries:
            expected = evaluate({query: run[query]}, {query: judged[query]}, [metric])[metric]
            assert found["metrics"][metric][query] == pytest.approx(expected)
    shallow = {q: ask(parts, name, text, TOP).documents for q, text in queries.items()}
    shallow = {q: {parts.ids[i]: -float(rank) for rank, i in enumerate(found)} for q, found in shallow.items()}
    mean = evaluate(shallow, judged, ["nDCG@10"])["nDCG@10"]
    assert np.mean(list(found["metrics"]["nDCG@10"].values())) == pytest.approx(mean)
    for key in ("encode", "search", "deep", "flops", "documents"):
        assert len(found[key]) == len(queries)
    assert min(found["search"]) > 0
    assert found["bytes"] > 0


def test_samples_are_nested():
    """A smaller sample is the beginning of a larger one, of the same seed; another seed draws others."""
    queries = {str(i): f"text {i}" for i in range(50)}
    large = sample(queries, 20, 0)
    assert list(large)[:7] == list(sample(queries, 7, 0))
    assert all(queries[name] == text for name, text in large.items())
    assert list(sample(queries, 20, 1)) != list(large)
    assert len(sample(queries, 99, 0)) == 50
    assert list(large) != list(queries)[:20]


def test_token_vectors_are_encoded_once(encoder, tmp_path, monkeypatch):
    """Shards that are in the folder are read; those that a killed process had not written are encoded."""
    monkeypatch.setattr(parts_module, "SHARD", 4)
    said = []
    first = list(token_vectors(encoder, TEXTS, tmp_path, said.append))
    assert len(said) == 4
    for vectors, expected in zip(first, encoder.encode_documents(TEXTS), strict=True):
        np.testing.assert_allclose(vectors, expected, atol=2e-6)
    sorted(tmp_path.iterdir())[1].unlink()
    again = list(token_vectors(encoder, TEXTS, tmp_path, said.append))
    assert len(said) == 5
    assert all((a == b).all() for a, b in zip(first, again, strict=True))


def test_vectors_of_another_model_are_not_taken(parts, folders, models, tmp_path):
    """The bi-encoder's rows lie in a folder of its own: a new model does not read those of the last one."""
    other = Sentences(folders["sentences"], 1)
    other.hash = "another"
    other._run = lambda ids: np.full((len(ids), 24), 0.5, np.float32)
    changed = Parts(parts.collection, Models(models.encoder, other, None), parts.work, lambda _: None)
    assert (changed.rows == 0.5).all()
    assert not (parts.rows == 0.5).all()


def test_a_system_without_its_model_is_refused(parts, models):
    """Without a cross-encoder its systems raise; hashes name the models that are there."""
    without = Parts(parts.collection, Models(models.encoder, models.sentences, None), parts.work, lambda _: None)
    with pytest.raises(ValueError, match="expected a cross-encoder"):
        ask(without, "cross-encoder-reranks-bm25-100")
    assert set(without.models.hashes) == {"encoder", "sentences"}
