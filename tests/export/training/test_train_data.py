"""Readers of training data, batches drawn from it, and models before training."""

import gzip
import json
from itertools import pairwise

import numpy as np
import pytest
import torch
from train_data import examples, write_jsonl

from refcolbert.encoding.tokens import TextTokenizer
from refcolbert.errors import InvalidInput, TrainingError, UnsupportedCheckpoint
from refcolbert_export.layouts.checkpoints import read_checkpoint
from refcolbert_export.lengths import by_length
from refcolbert_export.training.batches import Draw, group
from refcolbert_export.training.data import Example, fingerprint, read_examples
from refcolbert_export.training.pca import fit_head
from refcolbert_export.training.settings import Settings, parse_losses
from refcolbert_export.training.start import Head, for_training, read_start, save_start


def test_the_columns_of_sentence_transformers_are_read(tmp_path):
    """query or anchor, one positive or several, negatives in a list or numbered, scores; also from a .gz file."""
    rows = [
        {"query": "q", "positive": "p", "negatives": ["n", "m"], "scores": [3, 1.5, -1], "source": "ignored"},
        {"anchor": "a", "positives": ["p", "o"], "negative": "n"},
        {"query": "q", "positive": "p", **{f"negative_{i}": f"n{i}" for i in (10, 2, 1)}},
    ]
    expected = [
        Example("q", ("p",), ("n", "m"), (3, 1.5, -1)),
        Example("a", ("p", "o"), ("n",)),
        Example("q", ("p",), ("n1", "n2", "n10")),
    ]
    plain = write_jsonl(tmp_path / "a.jsonl", rows)
    packed = tmp_path / "b.jsonl.gz"
    packed.write_bytes(gzip.compress(b"\xef\xbb\xbf" + plain.read_bytes() + b"\n"))
    assert read_examples([plain, packed]) == expected * 2
    assert fingerprint(expected) != fingerprint(expected[::-1])


def test_the_triples_of_stanford_are_read(tmp_path):
    """Ids are looked up in queries.tsv and collection.tsv; with [pid, score] the first passage is the positive."""
    queries, collection = tmp_path / "queries.tsv", tmp_path / "collection.tsv"
    queries.write_text("7\twhat is it\n")
    collection.write_text("0\tthis\ttitle\n1\tthat\n2\tnothing\n")
    path = write_jsonl(tmp_path / "triples.jsonl", [[7, 1, 0], [7, [0, 2.5], [2, -1.0], [1, 0]]])
    assert read_examples([path], queries, collection) == [
        Example("what is it", ("that",), ("this",)),
        Example("what is it", ("this",), ("nothing", "that"), (2.5, -1.0, 0)),
    ]
    with pytest.raises(InvalidInput, match=r"triples.jsonl:1: .*queries.tsv and collection.tsv"):
        read_examples([path])


GOOD = {"query": "q", "positive": "p", "negatives": ["n"]}
WRONG = {
    "no query": ({"positive": "p"}, "'query'"),
    "no positive": ({"query": "q"}, "without positives"),
    "no positives": ({"query": "q", "positives": []}, "without positives"),
    "an empty query": ({**GOOD, "query": " "}, "a query with text"),
    "an empty positive": ({**GOOD, "positive": ""}, "a positive with text"),
    "an empty negative": ({**GOOD, "negatives": ["\t"]}, "a negative with text"),
    "a number as text": ({**GOOD, "negatives": [3]}, "a negative with text"),
    "an object as positive": ({**GOOD, "positive": {}}, "a text or a list"),
    "a lone surrogate": ({**GOOD, "query": "\ud800"}, "lone surrogate"),
    "a negative that is the positive": ({**GOOD, "negatives": ["p"]}, "also a positive"),
    "too few scores": ({**GOOD, "scores": [1.0]}, "expected 2 finite scores"),
    "NaN among the scores": ({**GOOD, "scores": [1.0, float("nan")]}, "expected 2 finite scores"),
    "true among the scores": ({**GOOD, "scores": [1.0, True]}, "expected 2 finite scores"),
    "one score": ({**GOOD, "scores": 1.0}, "list of numbers"),
    "a text": ("q", "an object or a list"),
    "a triple of one": ([1], "pid of the positive"),
    "scores for some": ([1, [2, 0.5], 3], "for every passage"),
    "an unknown id": ([1, 99], "has no passage 99"),
    "true as id": ([True, 2], "has no query True"),
}


@pytest.mark.parametrize("case", WRONG)
def test_a_malformed_line_is_named(tmp_path, case):
    """InvalidInput names file, line and fault when a line is malformed."""
    row, message = WRONG[case]
    (tmp_path / "q.tsv").write_text("1\tq\n")
    (tmp_path / "c.tsv").write_text("2\tp\n3\tn\n")
    path = write_jsonl(tmp_path / "bad.jsonl", [GOOD, row])
    with pytest.raises(InvalidInput, match=f"bad.jsonl:2: .*{message}"):
        read_examples([path], tmp_path / "q.tsv", tmp_path / "c.tsv")


def test_broken_files_are_named(tmp_path):
    """Not JSON, not UTF-8, a cut .gz, a table without tabs or with an id twice, no file, no line."""
    path, table = tmp_path / "x.jsonl", tmp_path / "t.tsv"
    good = json.dumps(GOOD).encode()
    for content, message in (
        (good + b"\n{", "x.jsonl:2: not JSON"),
        (good + b"\n\xff", "x.jsonl:2: not UTF-8"),
        (b"\n", "found none"),
    ):
        path.write_bytes(content)
        with pytest.raises(InvalidInput, match=message):
            read_examples([path])
    cut = tmp_path / "cut.jsonl.gz"
    cut.write_bytes(gzip.compress(good * 50)[:-20])
    for broken in (cut, tmp_path / "nothing.jsonl"):
        with pytest.raises(InvalidInput, match="cannot be read"):
            read_examples([broken])
    path.write_text("[1, 2]\n")
    for content in ("1 no tab\n", "1\ta\n1\tb\n"):
        table.write_text(content)
        with pytest.raises(InvalidInput, match=r"t.tsv:\d: expected an id"):
            read_examples([path], table, table)


def test_every_epoch_has_every_example_once(tmp_path):
    """Batches cut the epochs' permutations one after another, and depend on nothing but seed and number."""
    data = examples(tmp_path, 10)
    draw = Draw(data, 4, 1, seed=3)
    drawn = [draw.batch(i) for i in (4, 1, 3, 0, 2)]
    queries = [q for i in (3, 1, 4, 2, 0) for q in drawn[i].queries]
    assert sorted(queries[:10]) == sorted(queries[10:]) == sorted(e.query for e in data)
    assert queries[:10] != queries[10:]
    again = Draw(data, 4, 1, seed=3).batch(4)
    assert (again.queries, again.documents, again.columns) == (drawn[0].queries, drawn[0].documents, drawn[0].columns)
    chosen = {draw.batch(i).documents[row[1]] for i in range(40) for row in draw.batch(i).columns}
    assert chosen == {n for e in data for n in e.negatives}


def test_scores_stay_with_their_texts():
    """Whichever positive and negatives an epoch chooses, the teacher's scores are theirs."""
    texts = {"p": 1.0, "o": 2.0, "n": 3.0, "m": 4.0, "l": 5.0}
    names = tuple(texts)
    draw = Draw([Example("q", names[:2], names[2:], tuple(texts.values()))], 1, 2, seed=0)
    for i in range(20):
        batch = draw.batch(i)
        assert [texts[batch.documents[j]] for j in batch.columns[0]] == batch.teacher[0]
        assert len(batch.columns[0]) == 3
        assert batch.documents[batch.columns[0][0]] in ("p", "o")


def test_a_known_answer_is_nobodys_negative():
    """A text that any example calls an answer to the query is not compared, but for the one that is the positive."""
    data = [Example("q", ("a",), ("n",)), Example("q", ("b",)), Example("r", ("c",), ("a",))]
    batch = Draw(data, 3, None, seed=0).batch(0)
    for i, query in enumerate(batch.queries):
        compared = {t for t, c in zip(batch.documents, batch.compared[i].tolist(), strict=True) if c}
        positive = batch.documents[batch.columns[i][0]]
        assert compared == ({"n", "c", positive} if query == "q" else {"a", "b", "c", "n"})


def test_groups_hold_every_text_once_with_little_padding(checkpoint):
    """Rows that count are those that tokens.py keeps, in groups no larger than asked."""
    found = read_checkpoint(checkpoint)
    texts = ["a, b", "the date of it. " * 9, "x", "wing " * 20, "why?"]
    tokens = TextTokenizer(found.tokenizer_json, found.spec).documents(texts)
    groups = group(tokens, found.spec.pad_id, 60)
    assert sorted(i for g in groups for i in g.texts) == list(range(5))
    for g in groups:
        assert g.ids.numel() <= 60 or len(g.texts) == 1
        flat = g.ids.flatten()[g.rows]
        assert flat.tolist() == [int(x) for i in g.texts for x in tokens[i].ids[tokens[i].keep]]
        assert g.lengths == [int(tokens[i].keep.sum()) for i in g.texts]
        assert g.attention.sum() == sum(len(tokens[i].ids) for i in g.texts)


def test_a_sentence_encoder_gets_a_seeded_head(transformer, tmp_path):
    """A folder without projection starts with orthogonal rows; saved and read again it is the same model."""
    start = read_start(transformer, Head(dim=8, mask_punctuation=False, attend_to_mask_tokens=True), seed=4)
    weight = start.model.head[0].weight
    np.testing.assert_allclose((weight @ weight.T).detach(), np.eye(8), atol=1e-6)
    assert torch.equal(weight, read_start(transformer, Head(dim=8), seed=4).model.head[0].weight)
    save_start(start, tmp_path / "saved")
    again = read_checkpoint(tmp_path / "saved")
    assert again.spec == start.spec
    assert (again.spec.dim, again.spec.expansion_attended, len(again.spec.skiplist)) == (8, True, 1)
    ids = torch.tensor([[4, 1, 50, 5]])
    assert torch.equal(again.model(ids, torch.ones_like(ids)), start.model.eval()(ids, torch.ones_like(ids)))
    with pytest.raises(TrainingError, match="dim of 1 to 32"):
        read_start(transformer, Head(dim=33))
    with pytest.raises(UnsupportedCheckpoint, match="found none"):
        read_start(tmp_path / "nowhere", Head())


def test_a_failed_save_leaves_what_was_there(checkpoint, tmp_path, monkeypatch):
    """When writing ends in an error the old checkpoint is whole and no scratch folder is left."""
    start = read_start(checkpoint, Head())
    save_start(start, tmp_path / "saved")
    before = {p.name: p.read_bytes() for p in (tmp_path / "saved").iterdir()}

    def full(*_args, **_more):
        raise OSError("disk full")

    monkeypatch.setattr("refcolbert_export.training.saving.save_file", full)
    with pytest.raises(OSError, match="disk full"):
        save_start(start, tmp_path / "saved")
    assert {p.name: p.read_bytes() for p in (tmp_path / "saved").iterdir()} == before
    assert [p.name for p in tmp_path.iterdir()] == ["saved"]


def test_settings_that_no_run_could_use_are_refused():
    """TrainingError names the setting, what was expected and what was found."""
    wrong_values = {"batch": 0, "steps": 0, "temperature": 0.0, "negatives": -1, "precision": "int8", "losses": {}}
    for name, value in {**wrong_values, "metric": "MRR", "architecture": "bert", "clip": float("nan")}.items():
        with pytest.raises(TrainingError, match="expected"):
            Settings(**{"steps": 1, name: value})
    for wrong in ("klx", "kl=0", "kl=-1", "kl=nan", "kl=x", "kl=inf"):
        with pytest.raises(TrainingError, match="NAME=WEIGHT"):
            parse_losses((wrong,))
    with pytest.raises(TrainingError, match="once"):
        parse_losses(("kl", "kl=2"))
    assert parse_losses(("kl=0.5", "in-batch")) == {"kl": 0.5, "in-batch": 1.0}


def test_neighbours_stay_together_in_blocks(tmp_path):
    """With blocks of 3 the order is shuffled and every block's examples follow each other, the short last one too."""
    data = examples(tmp_path, 11)
    names = {e.query + e.positives[0]: i for i, e in enumerate(data)}
    drawn = Draw(data, 11, 0, 5, block=3).batch(0)
    order = [names[q + drawn.documents[row[0]]] for q, row in zip(drawn.queries, drawn.columns, strict=True)]
    assert sorted(order) == list(range(11))
    assert order != list(range(11))
    assert all(b == a + 1 for a, b in pairwise(order) if b % 3)


def test_training_may_cut_queries_later_and_documents_earlier(checkpoint):
    """Longer queries keep their words, short ones are filled as the checkpoint fills them; positions are the limit."""
    start = read_start(checkpoint, Head())
    tokenizer = TextTokenizer(start.tokenizer_json, for_training(start, 50, 20))
    assert [len(t.ids) for t in tokenizer.queries(["a", "a " * 40, "a " * 90])] == [32, 43, 50]
    assert len(tokenizer.documents(["a " * 90])[0].ids) == 20
    assert for_training(start, None, 999).document_length == start.spec.document_length
    with pytest.raises(TrainingError, match="64 positions"):
        for_training(start, 65, 20)


def test_a_fitted_head_changes_inner_products_least(transformer, tmp_path):
    """PCA rows are orthonormal and lose less of the documents' states than drawn rows do; equal data, equal rows."""
    data = examples(tmp_path)
    drawn, fitted, again = (read_start(transformer, Head(dim=8)) for _ in range(3))
    fit_head(fitted, data)
    fit_head(again, data)
    rows = {name: start.model.head[0].weight.detach() for name, start in (("drawn", drawn), ("fitted", fitted))}
    assert torch.equal(rows["fitted"], again.model.head[0].weight)
    np.testing.assert_allclose(rows["fitted"] @ rows["fitted"].T, np.eye(8), atol=1e-6)
    tokens = TextTokenizer(fitted.tokenizer_json, fitted.spec).documents([e.positives[0] for e in data])
    lost = dict.fromkeys(rows, 0.0)
    with torch.no_grad():
        for t in tokens:
            ids = torch.from_numpy(t.ids)[None]
            states = fitted.model.states(ids, torch.ones_like(ids))[0, torch.from_numpy(t.keep)]
            for name, weight in rows.items():
                lost[name] += float((states - states @ weight.T @ weight).square().sum())
    assert lost["fitted"] < 0.5 * lost["drawn"]


def test_a_group_is_closed_for_much_shorter_texts():
    """Once a group is worth a run, a text below 7/8 of its longest begins another; few texts stay together."""
    assert by_length([100] * 6 + [90, 80], 4096) == [[0, 1, 2, 3, 4, 5, 6], [7]]
    assert by_length([100, 10], 4096) == [[0, 1]]
    assert by_length([5, 100, 5], 100) == [[1], [0, 2]]
    assert by_length([], 100) == []
