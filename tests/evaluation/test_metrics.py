"""Evaluation: metrics against values worked out by hand, and the file layouts."""

import gzip
import math

import ir_measures
import pytest
from hypothesis import given
from hypothesis import strategies as st

from refcolbert import Hit
from refcolbert.errors import InvalidInput, RefColbertError
from refcolbert.evaluation.metrics import (
    METRICS,
    evaluate,
    per_query,
    read_qrels,
    read_queries,
    read_run,
    run_of,
    write_run,
)
from refcolbert.hits import Parts


def answer(names):
    """Documents of one letter each, best first."""
    return {name: float(len(names) - i) for i, name in enumerate(names)}


def gain(places):
    """DCG of documents of relevance 1 at these ranks."""
    return sum(1 / math.log2(place + 1) for place in places)


# ---- metrics


@pytest.mark.parametrize(
    ("ranked", "judged", "expected"),
    [
        ("a", {"a": 1}, {"nDCG@10": 1, "RR@10": 1, "R@100": 1}),
        ("xa", {"a": 1}, {"nDCG@10": gain([2]), "RR@10": 1 / 2, "R@100": 1}),
        ("xayb", {"a": 1, "b": 1}, {"nDCG@10": gain([2, 4]) / gain([1, 2]), "RR@10": 1 / 2, "R@100": 1}),
        ("ab", {"a": 1, "c": 1}, {"nDCG@10": gain([1]) / gain([1, 2]), "RR@10": 1, "R@100": 1 / 2}),
        ("ba", {"a": 2, "b": 1}, {"nDCG@10": (1 + 2 * gain([2])) / (2 + gain([2])), "RR@10": 1, "R@100": 1}),
        ("xyz", {"a": 1}, {"nDCG@10": 0, "RR@10": 0, "R@100": 0}),
        ("ab", {"a": 0, "b": 1}, {"nDCG@10": gain([2]), "RR@10": 1 / 2, "R@100": 1}),
        ("xyzuvwrstpa", {"a": 1}, {"nDCG@10": 0, "RR@10": 0, "R@100": 1}),
    ],
)
def test_metrics_of_one_query(ranked, judged, expected):
    """nDCG@10, RR@10 and R@100 equal their formulas, worked out by hand."""
    assert evaluate({"q": answer(ranked)}, {"q": judged}) == pytest.approx(expected)


def test_metrics_are_means_over_the_judged_queries():
    """A judged query that is absent from the run, or has no answer, counts as 0; an unjudged one does not count."""
    run = {"found": answer("a"), "unjudged": answer("a"), "empty": {}}
    qrels = {"found": {"a": 1}, "absent": {"a": 1}, "empty": {"a": 1}, "also absent": {"b": 1}}
    assert evaluate(run, qrels) == pytest.approx(dict.fromkeys(METRICS, 1 / 4))


def test_an_empty_run_scores_zero():
    """No answer at all is 0 in every metric, not an error."""
    assert evaluate({}, {"q": {"a": 1}}, ["AP", "P@5", *METRICS]) == dict.fromkeys(["AP", "P@5", *METRICS], 0.0)


def test_metrics_go_by_score_not_by_place_in_the_mapping():
    """A run that is not sorted is ranked by its scores."""
    assert evaluate({"q": {"b": 1.0, "a": 2.0}}, {"q": {"a": 1}}, ["RR@10"]) == {"RR@10": 1.0}


@pytest.mark.parametrize("metric", ["nDCG@10", "RR@10", "AP", "P@1", "Success@1"])
@pytest.mark.parametrize("scores", [(1.0, 1.0), (30.0000001, 30.0), (-2.0, -2.0)], ids=["equal", "near", "negative"])
@pytest.mark.parametrize("names", ["ab", "ba"])
def test_ties_keep_the_order_of_the_answer(metric, scores, names):
    """The first document of an answer is ranked first, whatever its name and however close the second's score."""
    run = {"q": dict(zip(names, scores, strict=True))}
    assert evaluate(run, {"q": {names[0]: 1}}, [metric]) == {metric: 1.0}


def test_metrics_come_in_the_order_and_spelling_asked_for():
    """Any ir-measures name is taken and given back as it was written."""
    found = evaluate({"q": answer("xa")}, {"q": {"a": 1}}, ["R@1", "AP", "P@2"])
    assert list(found.items()) == [("R@1", 0.0), ("AP", 0.5), ("P@2", 0.5)]


@pytest.mark.parametrize("name", ["foo", "foo@10", "", "nDCG@", "nDCG(", "import os", "P", "nDCG@0", "R@0"])
def test_an_unknown_metric_is_refused(name):
    """A name that cannot be calculated is an InvalidInput that shows what a name looks like."""
    with pytest.raises(InvalidInput, match=r"metric.*nDCG@10, RR@10, R@100"):
        evaluate({"q": answer("a")}, {"q": {"a": 1}}, [name])


@pytest.mark.parametrize(("qrels", "metrics"), [({}, METRICS), ({"q": {"a": 1}}, [])], ids=["judgement", "metric"])
def test_nothing_to_calculate_is_refused(qrels, metrics):
    """Without a judgement there is no mean, without a metric no answer."""
    with pytest.raises(InvalidInput):
        evaluate({"q": answer("a")}, qrels, metrics)


def test_values_of_each_query_add_up_to_the_mean():
    """per_query has every judged query, in the order of the judgements, under the names asked for."""
    run = {"b": answer("xa"), "unjudged": answer("a")}
    qrels = {"c": {"a": 1}, "b": {"a": 1}, "a": {"a": 1}}
    found = per_query(run, qrels, ["MRR@10", "R@1", "RR@10"])
    assert found == {
        "MRR@10": {"c": 0.0, "b": 0.5, "a": 0.0},
        "R@1": dict.fromkeys("cba", 0.0),
        "RR@10": found["MRR@10"],
    }
    assert list(found["R@1"]) == list("cba")
    assert evaluate(run, qrels, ["MRR@10"])["MRR@10"] == pytest.approx(sum(found["MRR@10"].values()) / 3)


@pytest.mark.parametrize(
    ("alias", "name"),
    [("MRR@10", "RR@10"), ("Recall@50", "R@50"), ("Recall@1000", "R@1000"), ("MAP", "AP"), ("NDCG@10", "nDCG@10")],
)
def test_the_fields_names_are_known(alias, name):
    """The names of papers give the same values as the names of ir-measures."""
    run, qrels = {"q": answer("xayb")}, {"q": {"a": 1, "b": 1}}
    assert evaluate(run, qrels, [alias])[alias] == evaluate(run, qrels, [name])[name]


# ---- files


def written(path, content):
    """`path`, holding `content`."""
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return path


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (
            "query-id\tcorpus-id\tscore\nq1\td1\t1\nq1\td 2\t0\nq2\td1\t2\n",
            {"q1": {"d1": 1, "d 2": 0}, "q2": {"d1": 2}},
        ),
        ("q1\td1\t1\nq2\td1\t-1\n", {"q1": {"d1": 1}, "q2": {"d1": -1}}),
        ("q1 0 d1 1\nq1  0   d2  0\n", {"q1": {"d1": 1, "d2": 0}}),
        ("q1\t0\td1\t3\n", {"q1": {"d1": 3}}),
        ("q1 0 d1 1\r\nq2 Q0 d1 1\r\n", {"q1": {"d1": 1}, "q2": {"d1": 1}}),
        ('q1\t"d1\t1\n', {"q1": {'"d1': 1}}),
        ("\ufeffquery-id\tcorpus-id\tscore\nq1\td1\t1\n", {"q1": {"d1": 1}}),
        ("q1 0 d1 1\n\nq1 0 d2 1\n\n", {"q1": {"d1": 1, "d2": 1}}),
        ("q1\td\u2028x\t1\n", {"q1": {"d\u2028x": 1}}),
        ("", {}),
    ],
    ids=range(10),
)
def test_judgements_are_read(tmp_path, content, expected):
    """BEIR, with or without header, and TREC give query id -> document id -> relevance."""
    assert read_qrels(written(tmp_path / "qrels.tsv", content)) == expected


@pytest.mark.parametrize(
    "line", ["q1\td1\tyes", "q1\td1", "q1", "q1 0 d1 1.5", "q1 0 d1 x", "q1\td1\t", "q1 0 d one 1", "q1 0 d1 1 more"]
)
def test_a_line_without_a_judgement_is_named(tmp_path, line):
    """The error names file and line."""
    with pytest.raises(InvalidInput, match=r"qrels\.tsv:2: expected a BEIR or TREC judgement"):
        read_qrels(written(tmp_path / "qrels.tsv", f"q0 0 d0 1\n{line}\n"))


@pytest.mark.parametrize(
    ("name", "content", "expected"),
    [
        ("q.jsonl", '{"_id": "1", "text": "one"}\n\n{"id": "2", "text": "two"}\n', {"1": "one", "2": "two"}),
        ("q.jsonl", '{"_id": 1, "text": "one", "metadata": {}}\n', {"1": "one"}),
        ("q.jsonl", '{"_id": "1", "text": "a\u2028b"}\n', {"1": "a\u2028b"}),
        ("q.tsv", "1\tone\n\n2\ttwo\ttab\r\n", {"1": "one", "2": "two\ttab"}),
        ("q.tsv", "\ufeff1\tone\n", {"1": "one"}),
        ("q.tsv", "1\ta\u2028b\x85c\x0bd\x0ce\n", {"1": "a\u2028b\x85c\x0bd\x0ce"}),
        ("q.txt", "1\t\n", {"1": ""}),
        ("q.tsv", "", {}),
    ],
    ids=range(8),
)
def test_queries_are_read(tmp_path, name, content, expected):
    """JSONL and TSV give query id -> text; nothing but newlines ends a line."""
    assert read_queries(written(tmp_path / name, content)) == expected


@pytest.mark.parametrize(
    ("name", "line", "message"),
    [
        ("q.jsonl", '{"_id": "1"}', "expected a query id and a text"),
        ("q.jsonl", '{"text": "one"}', "expected a query id and a text"),
        ("q.jsonl", '{"_id": "1", "text": 5}', "expected a query id and a text"),
        ("q.jsonl", '{"_id": "0", "text": "again"}', "'0' occurs twice"),
        ("q.jsonl", '{"_id": 0, "text": "again"}', "0 occurs twice"),
        ("q.jsonl", "nothing", "not JSON"),
        ("q.tsv", "no tab", "expected a query id and a text"),
        ("q.tsv", "0\tagain", "'0' occurs twice"),
    ],
    ids=range(8),
)
def test_a_line_without_a_query_is_named(tmp_path, name, line, message):
    """The error names file and line."""
    first = "0\tzero" if name == "q.tsv" else '{"_id": "0", "text": "zero"}'
    with pytest.raises(InvalidInput, match=f"{name}:2.*{message}"):
        read_queries(written(tmp_path / name, f"{first}\n{line}\n"))


TOPICS = """<top>
<num> Number: 301
<title> International
 Organized Crime
<desc> Description:
Identify organizations.
</top>

<top>
<num>302</num>
<title>Topic: Poliomyelitis and Post-Polio</title>
</top>
"""


def test_trec_topics_are_queries(tmp_path):
    """Number and title of each <top>, on however many lines."""
    expected = {"301": "International Organized Crime", "302": "Poliomyelitis and Post-Polio"}
    assert read_queries(written(tmp_path / "topics.txt", TOPICS)) == expected
    assert read_queries(written(tmp_path / "topics.gz", gzip.compress(TOPICS.encode()))) == expected


def test_a_topic_without_a_title_is_named(tmp_path):
    """The error names the line where it begins."""
    with pytest.raises(InvalidInput, match=r"topics\.txt:9: expected a query id and a text"):
        read_queries(written(tmp_path / "topics.txt", TOPICS.replace("<title>Topic", "<desc>Topic")))


def test_a_beir_folder_is_read_as_its_files(tmp_path):
    """queries.jsonl and the judgements of the test split."""
    (tmp_path / "qrels").mkdir()
    written(tmp_path / "queries.jsonl", '{"_id": "1", "text": "one"}\n')
    written(tmp_path / "qrels" / "test.tsv", "query-id\tcorpus-id\tscore\n1\td\t1\n")
    assert read_queries(tmp_path) == {"1": "one"}
    assert read_qrels(tmp_path) == {"1": {"d": 1}}


@pytest.mark.parametrize("read", [read_queries, read_qrels, read_run])
@pytest.mark.parametrize("name", ["none.jsonl", "none.tsv", "folder", "latin.tsv"])
def test_a_file_that_cannot_be_read_is_named(tmp_path, read, name):
    """A missing file, a folder and text that is not UTF-8 are errors of ours that name the path."""
    (tmp_path / "folder").mkdir()
    written(tmp_path / "latin.tsv", b"q\tcaf\xe9\t1\n")
    with pytest.raises(RefColbertError, match=name):
        read(tmp_path / name)


# ---- runs


def hit(name, score, rank, metadata=None):
    """A hit without an explanation."""
    return Hit(
        rank=rank,
        score=score,
        id=name,
        text=None,
        metadata=metadata or {},
        parts=Parts(late=score, words=None),
        similarity=None,
        _explain=lambda: None,
    )


def test_answers_become_a_run():
    """A run holds the hits of each query in their order; a query without hits stays in it."""
    run = run_of(["q1", "q2"], [[hit("b", 2.5, 1), hit("a", 1.0, 2)], []])
    assert run == {"q1": {"b": 2.5, "a": 1.0}, "q2": {}}
    assert list(run["q1"]) == ["b", "a"]


def test_a_run_needs_as_many_answers_as_queries():
    """Answers that would be given to the wrong query are refused."""
    with pytest.raises(ValueError, match="zip"):
        run_of(["q1", "q2"], [[]])


def test_a_run_file_has_the_six_columns_of_trec(tmp_path):
    """query Q0 document rank score tag, ranks from 1."""
    write_run({"q1": {"b": 2.5, "a": 1.0}, "q2": {"a": 0.1}}, tmp_path / "run", tag="mine")
    assert (tmp_path / "run").read_text() == "q1 Q0 b 1 2.5 mine\nq1 Q0 a 2 1.0 mine\nq2 Q0 a 1 0.1 mine\n"


words = st.text(st.characters(codec="utf-8", exclude_categories=("Z", "C")), min_size=1, max_size=5)


@given(st.dictionaries(words, st.dictionaries(words, st.floats(-1e6, 1e6), min_size=1, max_size=4), max_size=3))
def test_a_run_file_is_read_back(tmp_path_factory, run):
    """read_run returns the run that write_run wrote, in its order; ir-measures reads the same, to the last bit."""
    path = tmp_path_factory.mktemp("run") / "run.trec"
    write_run(run, path)
    assert [(q, list(a.items())) for q, a in read_run(path).items()] == [(q, list(a.items())) for q, a in run.items()]
    found = {}
    for row in ir_measures.read_trec_run(str(path)):
        found.setdefault(row.query_id, {})[row.doc_id] = row.score
    assert found == run


@pytest.mark.parametrize(
    "line", ["q Q0 d 1 2.5", "q Q0 d 1 2.5 tag more", "q Q0 d 1 high tag", "q Q0 d 1 nan tag", "q Q0 d 1 inf tag", "q"]
)
def test_a_line_without_an_answer_is_named(tmp_path, line):
    """The error names file and line and the six columns."""
    with pytest.raises(InvalidInput, match=r"run:2: expected query Q0 document rank score tag"):
        read_run(written(tmp_path / "run", f"q Q0 a 1 2.5 tag\n{line}\n"))


def test_a_document_twice_in_an_answer_is_refused(tmp_path):
    """Which of the two ranks counts would be a guess."""
    with pytest.raises(InvalidInput, match=r"run:2: query 'q' has the document 'a' twice"):
        read_run(written(tmp_path / "run", "q Q0 a 1 2.5 tag\nq Q0 a 2 1.5 tag\n"))


def test_passages_count_for_their_group():
    """With a key a hit is in the run under its group's name."""
    cut = hit("d@3", 2.0, 1, {"passage_of": "d"})
    assert run_of(["q"], [[cut, hit("e", 1.0, 2)]], "passage_of") == {"q": {"d": 2.0, "e": 1.0}}


@pytest.mark.parametrize(("query", "document"), [("q", "my file.txt"), ("q 1", "d"), ("q", "a\nb"), ("q", "")])
def test_an_id_that_trec_cannot_hold_is_refused(tmp_path, query, document):
    """White space in an id would shift the columns, so the file is not written."""
    with pytest.raises(InvalidInput):
        write_run({query: {document: 1.0}}, tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_a_text_file_has_one_query_per_line(tmp_path):
    """In a .txt file without tabs each line is a query, named by its number; blank lines are none."""
    (tmp_path / "asked.txt").write_text("first query\n\nsecond\n")
    assert read_queries(tmp_path / "asked.txt") == {"1": "first query", "3": "second"}
