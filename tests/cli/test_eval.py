"""The verb eval: an index or a run file against judgements, alone and beside another run."""

import json
from pathlib import Path

import pytest

METRICS = ["nDCG@10", "MRR@10", "MAP", "Recall@50", "Recall@100", "Recall@1000"]


@pytest.fixture
def evaluate(run, index, beir):
    """`eval` of the BEIR folder's queries and judgements on its index."""

    def call(*options, exit_code=0):
        files = ["--queries", beir / "queries.jsonl", "--qrels", beir / "qrels" / "test.tsv"]
        return run("eval", index, *files, *options, exit_code=exit_code)

    return call


def test_eval_prints_the_metrics(evaluate):
    """Default metrics as lines, chosen ones as JSON under the names that were given."""
    lines = evaluate("--exact").stdout.splitlines()
    assert [line.split()[0] for line in lines] == METRICS
    assert lines[4].split() == ["Recall@100", "1.0000"]
    found = json.loads(evaluate("--metric", "R@3", "--metric", "Success@3", "--json").stdout)
    assert found == {
        "queries": 2,
        "metrics": {"R@3": 1.0, "Success@3": 1.0},
        "unjudged": [],
        "unanswered": [],
        "per_query": None,
        "baseline": None,
    }


def test_a_beir_folder_stands_for_its_files(run, index, beir, evaluate):
    """--queries and --qrels take the folder."""
    assert run("eval", index, "--queries", beir, "--qrels", beir).stdout == evaluate().stdout


def test_queries_that_do_not_match_are_said(evaluate, beir):
    """A judged query without a text counts as 0, one without judgements is not asked; both are named."""
    with (beir / "qrels" / "test.tsv").open("a") as file:
        file.write("q3\tdate\t1\nq4\tdate\t1\n")
    with (beir / "queries.jsonl").open("a") as file:
        file.write('{"_id": "q5", "text": "nobody judged this"}\n')
    result = evaluate("--metric", "R@100", "--json", "--save", "run.trec")
    found = json.loads(result.stdout)
    assert (found["metrics"], found["unjudged"], found["unanswered"]) == ({"R@100": 0.5}, ["q5"], ["q3", "q4"])
    assert "note: 1 queries without judgements are left out: q5\n" in result.stderr
    assert "note: 2 queries with judgements have no answer and count as 0: q3, q4\n" in result.stderr
    assert {line.split()[0] for line in Path("run.trec").read_text().splitlines()} == {"q1", "q2"}


def test_a_saved_run_evaluates_like_its_index(tmp_path, run, evaluate, beir):
    """The run file holds k answers a query, and without the index gives the same metrics."""
    printed = evaluate("--save", tmp_path / "run.trec", "-k", 2).stdout
    rows = [line.split() for line in (tmp_path / "run.trec").read_text().splitlines()]
    assert [(row[0], row[3]) for row in rows] == [("q1", "1"), ("q1", "2"), ("q2", "1"), ("q2", "2")]
    assert run("eval", "--run", tmp_path / "run.trec", "--qrels", beir).stdout == printed


def test_per_query_values_are_keyed_by_query(evaluate):
    """One line a query in the order of the judgements; in JSON by metric and query."""
    lines = evaluate("--per-query", "--metric", "R@1", "--metric", "R@3").stdout.splitlines()
    assert [line.split("\t")[::2] for line in lines[-3:]] == [["query", "R@3"], ["q1", "1.0000"], ["q2", "1.0000"]]
    found = json.loads(evaluate("--per-query", "--metric", "R@3", "--json").stdout)
    assert found["per_query"] == {"R@3": {"q1": 1.0, "q2": 1.0}}


BASELINE = "q1 Q0 wing 1 3.0 other\nq1 Q0 date 2 2.0 other\nq2 Q0 file 1 5.0 other\n"
BETTER = "q1 Q0 date 1 3.0 mine\nq2 Q0 file 1 5.0 mine\n"


def test_two_runs_are_compared(tmp_path, run, beir):
    """Means, difference, p, and which queries gained; texts stand beside ids where --queries gives them."""
    (tmp_path / "base.trec").write_text(BASELINE)
    (tmp_path / "mine.trec").write_text(BETTER)
    options = ["--run", "mine.trec", "--baseline", "base.trec", "--qrels", beir, "--metric", "MRR@10"]
    result = run("eval", *options, "--queries", beir)
    assert result.stdout.splitlines()[1].split() == ["MRR@10", "1.0000", "0.7500", "+0.2500", "1.0000", "1", "0"]
    assert result.stdout.splitlines()[-1] == "+0.5000  q1  parse a date"
    found = json.loads(run("eval", *options, "--json").stdout)["baseline"]["MRR@10"]
    gains = {"q1": 0.5, "q2": 0.0}
    assert found == {"mean": 0.75, "difference": 0.25, "p": 1.0, "better": 1, "worse": 0, "differences": gains}


def test_passages_count_for_their_document(tmp_path, run, beir):
    """With --group judgements of whole documents fit an index of passages."""
    text = "the wing of a flow. " * 8 + "read the file line by line. " * 3
    (tmp_path / "corpus.jsonl").write_text(
        json.dumps({"id": "file", "text": text}) + '\n{"id": "date", "text": "a date"}'
    )
    run("index", "cut", tmp_path / "corpus.jsonl", "--model", "MODEL", "--passages", 6, "--overlap", 0)
    options = ["--queries", beir, "--qrels", beir, "--metric", "R@2", "--json", "--save", "run.trec"]
    assert json.loads(run("eval", "cut", *options).stdout)["metrics"]["R@2"] < 1
    assert json.loads(run("eval", "cut", *options, "--group").stdout)["metrics"] == {"R@2": 1.0}
    rows = [line.split() for line in Path("run.trec").read_text().splitlines()]
    assert sorted((row[0], row[2]) for row in rows) == [(q, d) for q in ("q1", "q2") for d in ("date", "file")]


def test_eval_takes_a_mode_and_a_least_score(evaluate):
    """Answers by words are the documents with a word of the query, and none is as similar as 2."""
    evaluate("--mode", "words", "--save", "words.trec")
    answers = {tuple(line.split()[:3:2]) for line in Path("words.trec").read_text().splitlines()}
    assert answers == {("q1", "date"), ("q1", "wing"), ("q2", "file"), ("q2", "wing")}
    found = json.loads(evaluate("--min-score", 2, "--metric", "R@3", "--json").stdout)
    assert (found["unanswered"], found["metrics"]) == (["q1", "q2"], {"R@3": 0.0})


@pytest.mark.parametrize("metric", ["foo", "nDCG@"])
def test_an_unknown_metric_is_refused(evaluate, metric):
    """Exit code 1 with names that are known."""
    assert "RR@10" in evaluate("--metric", metric, exit_code=1).stderr


def test_files_of_another_kind_are_refused(run, index, beir):
    """A line that is not a judgement, or not of a run, is named by file and number."""
    corpus = beir / "corpus.jsonl"
    options = ["--queries", beir / "queries.jsonl", "--qrels", corpus]
    assert "corpus.jsonl:1" in run("eval", index, *options, exit_code=1).stderr
    assert "corpus.jsonl:1: expected query Q0" in run("eval", "--run", corpus, "--qrels", beir, exit_code=1).stderr


@pytest.mark.parametrize(
    ("args", "message"),
    [
        ([], "found neither"),
        (["index", "--run", "QRELS"], "found both"),
        (["index"], "requires --queries"),
    ],
    ids=["neither", "both", "no queries"],
)
def test_answers_come_from_an_index_or_a_file(run, index, beir, args, message):
    """The error names the option that is missing or one too many."""
    args = [str(beir / "qrels" / "test.tsv") if arg == "QRELS" else arg for arg in args]
    assert message in run("eval", *args, "--qrels", beir, exit_code=2).stderr
