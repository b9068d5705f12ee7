"""Pairs from clear sources, and the check that no test stands among them."""

import gzip
import json
from collections import Counter

import numpy as np
import pytest
from click.testing import CliRunner

from refcolbert.errors import InvalidInput
from tools.training import distil, leaks, pairs, sources
from tools.training.embeddings import SHARD, embed
from tools.training.leaks import TestTexts, shingles

LONG = "The wing of the model was heated and the flutter speed was measured in the large tunnel at night."
ABSTRACT = (
    "We describe amber. Cobalt pigments keep their colour under strong light for many years. "
    "It is cheap. Other pigments of the same family were found to fade within a few weeks. They end here."
)


@pytest.fixture
def data(tmp_path):
    """A collection with one query and one document."""
    folder = tmp_path / "data" / "one"
    (folder / "qrels").mkdir(parents=True)
    (folder / "queries.jsonl").write_text(json.dumps({"_id": "q", "text": "How fast do heated wings flutter?"}) + "\n")
    (folder / "corpus.jsonl").write_text(json.dumps({"_id": "d", "title": "Flutter of wings", "text": LONG}) + "\n")
    return folder.parent


def write(folder, name, rows):
    """A gzipped JSONL file of training pairs."""
    folder.mkdir(exist_ok=True)
    with gzip.open(folder / f"{name}.jsonl.gz", "wt") as file:
        file.writelines(json.dumps(row) + "\n" for row in rows)


@pytest.fixture
def train(tmp_path):
    """Small files of the three sets, with what must not come through."""
    folder = tmp_path / "train"
    row = {"query": "Pigments that keep their colour", "positive": ABSTRACT}
    write(
        folder,
        "acl_title_abstract",
        [
            {**row, "year": 2016},
            {"query": "Too early", "positive": "Nobody may ship what learnt this. " * 5, "year": 2015},
            {"query": "Without a year", "positive": "Nobody knows the licence of this one. " * 5},
            {
                "query": "HOW fast do heated wings flutter",
                "positive": "Asked in the test collection. " * 6,
                "year": 2020,
            },
            {"query": "A shared run", "positive": f"Somebody quotes: {LONG.upper()} And so on.", "year": 2020},
        ],
    )
    write(
        folder,
        "medquad",
        [
            {"query": "What is (are) Gout?", "positive": "Gout is a painful disease of the joints. " * 4},
            {"query": "What are the treatments for Gout?", "positive": "These resources address Gout. " * 9},
            {"query": "What is Gout ?", "positive": "Another answer to the very same question, long enough. " * 3},
        ],
    )
    write(
        folder,
        "debian_synopsis_description",
        [
            {"query": "pigment editor", "positive": ABSTRACT.swapcase()},
            {"query": "old name (transitional package)", "positive": "This can be removed. " * 9},
            {"query": "tiny", "positive": "Too short."},
        ],
    )
    return folder


def test_only_clear_texts_come_through(train, data, monkeypatch):
    """Years under CC BY-NC-SA, no year, boilerplate, doubles and texts of a test collection are left out."""
    monkeypatch.setattr(pairs, "SOURCES", sources.SOURCES[:3])
    found, counts = pairs.build(train, TestTexts.read(data), seed=0)
    assert {pair.source for pair in found} == {"debian_synopsis_description", "medquad"} | {"acl_title_abstract"} - {
        "acl_title_abstract"  # its one clear text differs from debian's by case alone
    }
    texts = {text for pair in found for text in (pair.query, pair.positive)}
    assert any("isease of the joints" in text for text in texts)
    assert counts["acl_title_abstract"] == Counter({"left out: in a test collection": 2, "left out: short or again": 1})
    assert counts["medquad"]["left out: query again"] == 1
    assert not any("resources" in text or "removed" in text or "licence" in text for text in texts)


def test_no_other_file_of_the_folder_is_read(train, data, monkeypatch):
    """Sets that no source names stay out, whatever they hold."""
    write(train, "squad2_dev_half", [{"query": "A question of SQuAD?", "positive": "A paragraph of Wikipedia. " * 9}])
    monkeypatch.setattr(pairs, "SOURCES", sources.SOURCES[:3])
    found, _ = pairs.build(train, TestTexts.read(data), seed=0)
    assert not any("SQuAD" in pair.query for pair in found)


def test_a_sentence_is_asked_for_in_the_text_without_it():
    """A sentence that stands on its own becomes a query; the document loses it, for its own title too."""
    for seed in range(10):
        sentence, given, *_ = pairs.pairs_of("Pigments that keep their colour", ABSTRACT, "s", seed)
        assert sentence.kind == "sentence"
        assert sentence.query.startswith(("Cobalt", "Other"))
        assert sentence.query not in sentence.positive
        assert sentence.positive == given.positive
        assert sorted(f"{sentence.query} {sentence.positive}".split()) == sorted(ABSTRACT.split())
        assert given.query == (
            "pigments keep their colour" if given.kind == "keywords" else "Pigments that keep their colour"
        )


def test_the_bytes_depend_on_content_and_seed_alone(tmp_path, train, data):
    """The same bytes are written again, and licences and counts beside them."""
    out = tmp_path / "out" / "pairs.jsonl.gz"
    for path in (out, tmp_path / "again.jsonl.gz"):
        pairs.write_pairs(train, data, path)
    assert out.read_bytes() == (tmp_path / "again.jsonl.gz").read_bytes()
    about = json.loads(out.with_suffix(".json").read_text())
    assert about["sources"]["medquad"]["licence"] == "CC BY 4.0"
    assert about["pairs"] == len(list(sources.read_gzip(out)))
    assert about["sources"]["python_docstrings"]["given"] > 100


def test_what_is_malformed_names_file_and_line(train):
    """A line that is no JSON, no object or lacks a text names its place."""
    for line, message in (("{", "not JSON"), ("[]", "one JSON object"), ('{"query": 1, "positive": "p"}', "strings")):
        with gzip.open(train / "medquad.jsonl.gz", "wt") as file:
            file.write('{"query": "q", "positive": "p"}\n' + line + "\n")
        with pytest.raises(InvalidInput, match=f"medquad.jsonl.gz:2: .*{message}"):
            list(sources.SOURCES[1].read(train))


def check(path, data):
    """The check command's status and output."""
    done = CliRunner().invoke(leaks.main, [str(path), "--data", str(data)])
    return done.exit_code, done.output


def test_the_check_finds_a_test_text_anywhere_in_a_line(tmp_path, data):
    """A query, a positive or a negative that equals a test text in letters and digits, or shares 13 words, is found."""
    path = tmp_path / "lines.jsonl"
    clean = {"query": "q", "positive": "p", "negatives": ["n"]}
    leaking = (
        {"query": "how fast do HEATED-wings flutter"},
        {"positive": "flutter of wings!"},
        {"negatives": ["n", LONG]},
        {"negatives": [" ".join(["before", *LONG.split()[2:15], "after"])]},
    )
    for leak in leaking:
        path.write_text(json.dumps(clean) + "\n" + json.dumps(clean | leak) + "\n")
        status, output = check(path, data)
        assert status == 1, leak
        assert "one" in output.splitlines()[1]
    path.write_text(json.dumps(clean | {"negatives": [" ".join(LONG.split()[2:14])]}) + "\n")
    status, output = check(path, data)
    assert status == 0
    assert output == "3 training texts, 4 test texts: 0 equal, 0 share 13 words\n"


def test_shingles_are_runs_of_words():
    """n words give n - 12 runs; case and punctuation do not count."""
    words = [f"w{i}" for i in range(15)]
    assert len(list(shingles(" ".join(words)))) == 3
    assert list(shingles(", ".join(words).upper())) == list(shingles(" ".join(words)))
    assert list(shingles("w " * 12)) == []


class Counting:
    """Embeds a text as its length, and counts calls."""

    calls = 0

    def encode(self, texts, length):
        """Rows [n_texts, 2]."""
        self.calls += 1
        return np.array([[len(text), length] for text in texts], np.float32)


def test_embeddings_are_kept(tmp_path):
    """A second run reads the shards that the first one wrote; another length is another shard."""
    texts = ["x" * (i % 7) for i in range(2 * SHARD + 5)]
    first, second = Counting(), Counting()
    forwards = embed(first, texts, 8, tmp_path)
    assert forwards[:, 0].tolist() == [float(i % 7) for i in range(len(texts))]
    assert (embed(second, texts, 8, tmp_path) == forwards).all()
    assert (first.calls, second.calls) == (3, 0)
    assert embed(second, texts, 9, tmp_path)[0, 1] == 9
    assert second.calls == 3


def test_distilled_lines_score_the_positive_first(tmp_path):
    """Lines hold the scaled scores of positive and negatives in their order; a positive it cannot find stays out."""
    words = [f"word{i}" for i in range(60)]
    documents = [f"{word} text number {i}" for i, word in enumerate(words)]
    found = [pairs.Pair(word, document, "s", "given") for word, document in zip(words, documents, strict=True)]
    found.append(pairs.Pair("nothing of it", documents[0], "s", "given"))
    pool = distil.Pool(documents, found, np.array([*range(60), 0]))
    rows = np.random.default_rng(0).normal(size=(60, 60)).astype(np.float32) * 1e-3 + np.eye(60, dtype=np.float32)
    queries = np.concatenate([np.eye(60, dtype=np.float32), -np.eye(60, dtype=np.float32)[:1]])
    counts: Counter[str] = Counter()
    lines = list(distil.distil(pool, queries, rows, 0, counts, distil.Choice()))
    assert counts == {"s: given": 60, "s: positive not found": 1}
    for i, line in enumerate(lines):
        assert line["positive"] == documents[i]
        assert documents[i] not in line["negatives"]
        assert line["scores"][0] == pytest.approx(distil.SCALE * (rows[i, i] + distil.WEIGHT), abs=1e-3)
        assert len(line["scores"]) == 1 + len(line["negatives"]) == 16
        assert max(line["scores"][1:]) < line["scores"][0] - distil.SCALE * distil.MARGIN
