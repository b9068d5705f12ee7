"""MTEB and PyTerrier, by the scripts in examples/, compute the figures of `refcolbert eval`."""

import json
import runpy
from pathlib import Path

import mteb
import pytest

from refcolbert import Index
from refcolbert.corpus.readers import read_documents
from refcolbert.evaluation.metrics import evaluate, read_qrels, read_queries, run_of

EXAMPLES = Path(__file__).parents[2] / "examples"
TEXTS = ["parse a date", "the date is a fruit", "read a file line by line", "sort a list", "walk through a folder"]
QUERIES = {"a": "text to date", "b": "files", "c": "order of elements"}
# None is best for its query, so that no figure is 0 or 1.
QRELS = [("a", "d1", 2), ("a", "d0", 1), ("b", "d4", 1), ("c", "d2", 1)]


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """A collection in BEIR's layout, in an empty folder."""
    monkeypatch.chdir(tmp_path)
    records = {
        "corpus": [{"_id": f"d{i}", "title": "Note", "text": text} for i, text in enumerate(TEXTS)],
        "queries": [{"_id": name, "text": text} for name, text in QUERIES.items()],
    }
    Path("beir/qrels").mkdir(parents=True)
    for name, rows in records.items():
        Path(f"beir/{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    Path("beir/qrels/test.tsv").write_text(
        "query\tdocument\tscore\n" + "".join(f"{q}\t{d}\t{r}\n" for q, d, r in QRELS)
    )
    return "beir"


def figures(folder, mode="late"):
    """The figures of `refcolbert eval` by name."""
    index = Index.build(f"{mode}.index", read_documents(folder))
    queries = read_queries(folder)
    run = run_of(list(queries), index.search_many(list(queries.values()), mode=mode))
    return evaluate(run, read_qrels(folder), ["nDCG@10", "RR@10", "R@100"])


def test_mteb_computes_the_same(folder):
    """MTEB rounds to five digits."""
    names = runpy.run_path(str(EXAMPLES / "mteb_model.py"))
    (result,) = mteb.evaluate(names["ColBERT"](), names["task_of"](folder), cache=None).task_results
    expected = figures(folder)["nDCG@10"]
    assert 0 < expected < 1
    assert result.get_score() == round(expected, 5)


def test_mteb_reranks(folder):
    """A reranking task of MTEB ranks the documents that it names for a query."""
    names = runpy.run_path(str(EXAMPLES / "mteb_model.py"))
    model, data = names["ColBERT"](), names["task_of"](folder).dataset["default"]["test"]
    model.index(data["corpus"])
    found = model.search(data["queries"], top_k=10, top_ranked={name: ["d1", "d4"] for name in QUERIES})
    assert [sorted(answer) for answer in found.values()] == [["d1", "d4"]] * 3


def test_pyterrier_computes_the_same(folder, monkeypatch):
    """An experiment has a row per mode, with its figures."""
    names = runpy.run_path(str(EXAMPLES / "pyterrier_experiment.py"))
    table = names["main"](folder).set_index("name")
    assert list(table.index) == ["late", "words", "hybrid"]
    for mode, row in table.to_dict("index").items():
        assert row == pytest.approx(figures(folder, mode))
