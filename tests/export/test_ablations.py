"""One model under other encodings."""

import json
from dataclasses import replace

import numpy as np
from click.testing import CliRunner

from refcolbert import Ragged
from tools.training import ablations


def test_rows_without_punctuation_are_those_that_the_model_gives(encoder, tmp_path):
    """Leaving out rows of the unfiltered encoding gives the filtered one, bit for bit."""
    texts = ["amber, cobalt. dusk!", "ember", "(flint) - grove?"]
    plain = ablations.variant(encoder.folder, replace(encoder.spec, skiplist=()), tmp_path / "plain")
    everything = plain.encode_documents(texts)
    found, expected = ablations.without_punctuation(encoder, texts, everything), encoder.encode_documents(texts)
    assert len(everything.vectors) > len(expected.vectors)
    assert np.array_equal(found.offsets, expected.offsets)
    assert np.array_equal(found.vectors, expected.vectors)


def test_other_encodings_change_queries_alone(encoder, tmp_path):
    """Without expansion a query keeps its own tokens; cut ones are never longer than 32."""
    found = {
        name: ablations.variant(encoder.folder, spec, tmp_path / str(i))
        for i, (name, spec) in enumerate(ablations.specs(replace(encoder.spec, query_length=48)).items())
    }
    bare, short = found["without [MASK] expansion"], found["queries cut at 32 tokens"]
    assert len(bare.encode_queries(["amber"])[0]) < len(encoder.encode_queries(["amber"])[0])
    assert len(short.encode_queries(["amber " * 60])[0]) == 32
    assert len(bare.encode_queries(["amber " * 60])[0]) == 48


def test_leading_directions_keep_products_where_vectors_lie_in_few_dimensions():
    """Vectors of a plane lose nothing in two dimensions; the directions are orthonormal, the largest first."""
    rng = np.random.default_rng(0)
    plane = np.linalg.qr(rng.standard_normal((6, 2)))[0].T * [[3.0], [1.0]]  # [2, 6]
    vectors = (rng.standard_normal((40, 2)) @ plane).astype(np.float32)  # [40, 6]
    found = ablations.leading(Ragged(vectors, np.array([0, 40])), 2)  # [6, 2]
    assert np.allclose(found.T @ found, np.eye(2), atol=1e-6)
    assert np.allclose((vectors @ found) @ (vectors @ found).T, vectors @ vectors.T, atol=1e-4)
    assert np.linalg.norm(vectors @ found[:, 0]) > np.linalg.norm(vectors @ found[:, 1])


def test_every_row_is_measured(encoder, tmp_path, monkeypatch):
    """The command prints and writes a row for each switch and width."""
    folder = tmp_path / "one"
    (folder / "qrels").mkdir(parents=True)
    texts = {str(i): f"amber{i} cobalt, dusk{i}." for i in range(40)}
    (folder / "corpus.jsonl").write_text(
        "".join(json.dumps({"_id": name, "text": text}) + "\n" for name, text in texts.items())
    )
    (folder / "queries.jsonl").write_text(json.dumps({"_id": "q", "text": texts["7"]}) + "\n")
    (folder / "qrels" / "test.tsv").write_text("query-id\tcorpus-id\tscore\nq\t7\t1\n")
    out = tmp_path / "ablations.json"
    arguments = [str(encoder.folder), "--data", str(tmp_path), "--collection", "one", "--json", str(out)]
    monkeypatch.setattr(ablations, "DIMS", (8, encoder.dim))
    done = CliRunner().invoke(ablations.main, arguments, catch_exceptions=False)
    figures = json.loads(out.read_text())["figures"]
    assert list(figures) == [
        "as it is",
        "without [MASK] expansion",
        f"queries cut at {min(32, encoder.spec.query_length)} tokens",
        "punctuation kept",
        "8 dimensions",
        "4 bits",
        "2 bits",
    ]
    assert figures["as it is"]["one"]["nDCG@10"] == 1.0
    assert all(name in done.stdout for name in figures)
