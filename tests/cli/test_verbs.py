"""The command line with the tiny model: the output and the exit code of each verb."""

import json
import logging
import re
import select
import shutil
import signal
import subprocess
import sys
from contextlib import contextmanager
from itertools import groupby
from pathlib import Path

import pytest

from refcolbert import Document, Index, __version__, rerank
from refcolbert.cli import demo, main
from refcolbert.corpus import readers

TEXTS = {
    "date": "parse a date from a string",
    "file": "read the file line by line",
    "wing": "the boundary layer of a flow over a wing",
}


def ids_of(result):
    """The ids that a search with --json printed."""
    return [json.loads(line)["id"] for line in result.stdout.splitlines()]


# ---- making an index


def write_tsv(folder):
    """A TSV file of the corpus."""
    (folder / "corpus.tsv").write_text("".join(f"{name}\t{text}\n" for name, text in TEXTS.items()))
    return [folder / "corpus.tsv"], ["date", "file", "wing"]


def write_jsonl(folder):
    """A JSONL file of the corpus."""
    (folder / "c.jsonl").write_text(
        "".join(json.dumps({"id": name, "text": text}) + "\n" for name, text in TEXTS.items())
    )
    return [folder / "c.jsonl"], ["date", "file", "wing"]


def write_texts(folder):
    """A folder of text files."""
    (folder / "texts").mkdir()
    for name, text in TEXTS.items():
        (folder / "texts" / f"{name}.txt").write_text(text)
    return [folder / "texts"], ["date.txt", "file.txt", "wing.txt"]


def write_several(folder):
    """A text file and a TSV file."""
    (folder / "one.txt").write_text("parse a date from a string")
    return [folder / "one.txt", *write_tsv(folder)[0]], ["one.txt", "date", "file", "wing"]


@pytest.mark.parametrize("write", [write_tsv, write_jsonl, write_texts, write_several])
def test_index_reads_every_layout(tmp_path, run, write):
    """The index holds the documents of all sources in order, and the summary counts them."""
    sources, ids = write(tmp_path)
    result = run("index", tmp_path / "new", *sources, "--model", "MODEL")
    assert re.fullmatch(rf".*new: {len(ids)} documents, \d+ token vectors, [\d,]+ bytes\n", result.stdout)
    assert result.stderr == ""  # no progress bar where nobody looks
    assert Index.open(tmp_path / "new").ids() == ids


def test_index_reads_a_beir_folder(index):
    """Titles go in front, other keys become metadata."""
    assert Index.open(index).get(["date", "file"]) == [
        Document(id="date", text="Dates parse a date from a string", metadata={"title": "Dates", "year": 2019}),
        Document(id="file", text="read the file line by line", metadata={"year": 2021}),
    ]


@pytest.mark.parametrize(("nbits", "held"), [("2", 2), ("float32", "float32"), ("float16", "float16")])
def test_index_keeps_vectors_as_asked(tmp_path, beir, run, nbits, held):
    """--nbits takes numbers and names."""
    run("index", tmp_path / "new", beir, "--model", "MODEL", "--nbits", nbits)
    assert Index.open(tmp_path / "new").info()["nbits"] == held


@pytest.mark.parametrize("nbits", ["3", "0", "-1", "float64", ""])
def test_index_refuses_other_numbers_of_bits(tmp_path, beir, run, nbits):
    """Exit code 1, the choices on stderr, and no index."""
    result = run("index", tmp_path / "new", beir, "--model", "MODEL", "--nbits", nbits, exit_code=1)
    assert "nbits must be one of" in result.stderr
    assert not (tmp_path / "new").exists()


@pytest.mark.parametrize(("words", "held"), [("auto", "unicode61"), ("trigram", "trigram"), ("none", None)])
def test_index_cuts_texts_into_words_as_asked(tmp_path, beir, run, words, held):
    """--words names the tokenizer; none makes an index without words."""
    run("index", tmp_path / "new", beir, "--model", "MODEL", "--words", words)
    assert Index.open(tmp_path / "new").info()["words"] == held


def test_compact_adds_words(tmp_path, beir, run):
    """Without words the error names the option that adds them; with it the search is answered."""
    run("index", "new", beir, "--model", "MODEL", "--words", "none")
    refused = run("search", "new", "a wing", "--mode", "words", exit_code=1).stderr
    assert "--mode words requires an index with words" in refused
    assert "`refcolbert compact --words porter` adds the words" in refused
    assert json.loads(run("compact", "new", "--words", "porter", "--json").stdout)["words"] == "porter"
    assert ids_of(run("search", "new", "wings", "--mode", "words", "--json")) == ["wing"]
    assert json.loads(run("compact", "new", "--json").stdout)["words"] == "porter"


def test_an_error_names_the_option(tmp_path, beir, run):
    """What Python calls pool_factor has the name that the user typed."""
    refused = run("index", "new", beir, "--model", "MODEL", "--pool-factor", 0, exit_code=1).stderr
    assert "InvalidInput: --pool-factor must be an integer >= 1" in refused


def test_index_does_not_replace_an_index(index, beir, run):
    """An existing index stays unchanged."""
    before = (index / "manifest.json").read_bytes()
    assert "IndexExists" in run("index", index, beir, "--model", "MODEL", exit_code=1).stderr
    assert (index / "manifest.json").read_bytes() == before


def test_a_broken_line_is_named_before_anything_is_encoded(tmp_path, run):
    """The error names file and line, nothing is left beside the target, and the mended file is indexed."""
    (tmp_path / "c.jsonl").write_text('{"id": "a", "text": "good"}\n{"text": 5}\n')
    assert "c.jsonl:2" in run("index", "new", "c.jsonl", "--model", "MODEL", exit_code=1).stderr
    assert not list(tmp_path.glob("new*"))
    (tmp_path / "c.jsonl").write_text('{"id": "a", "text": "good"}\n{"id": "b", "text": "five"}\n')
    run("index", "new", "c.jsonl", "--model", "MODEL")
    assert Index.open("new").ids() == ["a", "b"]


def test_without_a_model_the_error_says_what_to_do(tmp_path, beir, run):
    """No default model is exit code 1 and a way out on stderr."""
    lacking = run("index", "new", beir, exit_code=1).stderr
    assert "Error: ModelNotFound: this installation lacks the default model" in lacking
    assert "or name a model folder: --model PATH" in lacking
    assert run("index", "new", beir, "--model", "nowhere", exit_code=1).stderr.startswith("Error: ModelNotFound")
    assert not (tmp_path / "new").exists()


def test_the_default_model_is_found_by_itself(tmp_path, beir, run, encoder):
    """With the default model in its place no verb needs --model."""
    shutil.copytree(encoder.folder, tmp_path / "default_model")
    run("index", "new", beir)
    assert ids_of(run("search", "new", "read the file line by line", "-k", 1, "--json")) == ["file"]
    assert json.loads(run("info", "--json").stdout)["hash"] == encoder.hash


def test_an_index_of_an_earlier_default_model_can_be_reencoded(tmp_path, beir, run, encoder):
    """After an upgrade that changed the default model, a search names the way, and the index works again after it."""
    default = tmp_path / "default_model"
    shutil.copytree(encoder.folder, default)
    run("index", "new", beir)
    spec = json.loads((default / "encoding.json").read_text())
    (default / "encoding.json").write_text(json.dumps({**spec, "document_length": 32}))
    refused = run("search", "new", "a date", exit_code=1).stderr
    assert (
        f"made with the default model of another version of refcolbert, {encoder.hash[:12]}; use `refcolbert" in refused
    )
    run("reencode", "new")
    assert ids_of(run("search", "new", "read the file line by line", "-k", 1, "--json")) == ["file"]


def test_an_index_of_the_small_model_names_it(tmp_path, beir, run, encoder, monkeypatch):
    """The name stays in the index, words are English stems, and a model of another version is named with the way."""
    small = tmp_path / "small_model"
    monkeypatch.setattr("refcolbert.encoding.encoder.small_model_folder", lambda: small)
    shutil.copytree(encoder.folder, small)
    run("index", "new", beir, "--model", "small")
    info = json.loads(run("info", "new", "--json").stdout)
    assert (info["encoder"]["source"], info["words"]) == ("small", "porter")
    assert ids_of(run("search", "new", "read the file line by line", "-k", 1, "--json")) == ["file"]
    spec = json.loads((small / "encoding.json").read_text())
    (small / "encoding.json").write_text(json.dumps({**spec, "document_length": 32}))
    refused = run("search", "new", "a date", exit_code=1).stderr
    assert f"made with the small model of another version of refcolbert, {encoder.hash[:12]}" in refused
    assert "use `refcolbert reencode INDEX small`" in refused


# ---- searching


def test_search_prints_rank_score_id_and_text(index, run):
    """One line a hit, best first."""
    lines = run("search", index, "read the file line by line").stdout.splitlines()
    assert len(lines) == 3
    assert re.fullmatch(r"  1 +\d+\.\d{4}  file  read the file line by line", lines[0])
    assert [line.split()[0] for line in lines] == ["1", "2", "3"]


def test_search_json_is_what_the_library_returns(index, run):
    """Each line is one hit with all that is known of it."""
    with Index.open(index) as opened:
        hits = opened.search("parse a date", 2)
    expected = [
        {
            "rank": h.rank,
            "score": h.score,
            "id": h.id,
            "text": h.text,
            "metadata": h.metadata,
            "parts": {"late": h.parts.late, "words": None},
            "similarity": h.similarity,
        }
        for h in hits
    ]
    result = run("search", index, "parse a date", "-k", 2, "--json")
    assert [json.loads(line) for line in result.stdout.splitlines()] == expected


def test_search_by_words_finds_what_has_them(index, run):
    """--mode words returns the documents with a word of the query, by BM25, and needs no model."""
    (hit,) = map(json.loads, run("search", index, "a wing", "--mode", "words", "--json", "-k", 1).stdout.splitlines())
    assert (hit["id"], hit["similarity"]) == ("wing", None)
    assert hit["parts"] == {"late": None, "words": hit["score"]}
    assert ids_of(run("search", index, "nowhere", "--mode", "words", "--json")) == []


def test_hybrid_search_prints_both_parts(index, run):
    """Each line has the fused score, then MaxSim and BM25."""
    with Index.open(index) as opened:
        hits = opened.search("a wing", mode="hybrid")
    lines = run("search", index, "a wing", "--mode", "hybrid").stdout.splitlines()
    assert [line.split()[:7] for line in lines] == [
        [str(h.rank), f"{h.score:.4f}", "late", f"{h.parts.late:.3f}", "words", f"{h.parts.words:.3f}", h.id]
        for h in hits
    ]


def test_min_score_leaves_hits_out(index, run):
    """--min-score keeps the hits that are at least as similar."""
    hits = [json.loads(line) for line in run("search", index, "parse a date", "--json").stdout.splitlines()]
    least = sorted(hit["similarity"] for hit in hits)[1]
    kept = ids_of(run("search", index, "parse a date", "--json", "--min-score", least))
    assert kept == [hit["id"] for hit in hits if hit["similarity"] >= least]
    assert len(kept) == 2


@pytest.mark.parametrize(
    ("where", "ids"),
    [
        ('{"year": {"$gte": 2020}}', {"file", "wing"}),
        ('{"title": "Dates"}', {"date"}),
        ('{"year": 1}', set()),
        ("{}", {"date", "file", "wing"}),
    ],
)
def test_search_where_filters(index, run, where, ids):
    """--where leaves the documents that match; none is an empty answer and success."""
    assert set(ids_of(run("search", index, "a date", "--where", where, "--json"))) == ids


def test_search_parameters_do_not_change_a_small_answer(index, run):
    """--exact, --nprobe, --candidates and --model give the same hits where all is ranked anyway."""
    plain = run("search", index, "a date", "--json").stdout
    assert len(plain.splitlines()) == 3
    for options in (["--exact"], ["--nprobe", 1], ["--candidates", 2], ["--model", "MODEL"]):
        assert run("search", index, "a date", "--json", *options).stdout == plain


def test_search_shortens_long_texts_to_one_line(tmp_path, run):
    """A text of many lines is shown as the beginning of one."""
    (tmp_path / "long.txt").write_text("read the file\n\n" + "line by line\n" * 50)
    run("index", "new", tmp_path / "long.txt", "--model", "MODEL")
    (line,) = run("search", "new", "file").stdout.splitlines()
    assert "long.txt  read the file line by line line" in line
    assert line.endswith("...")
    assert len(line) < 130


@pytest.mark.parametrize("text", ["\u4e2d\u6587 \U0001f600 caf\u00e9", ""])
def test_search_prints_any_text(tmp_path, run, text):
    """JSON keeps characters as they are; an empty text is one."""
    (tmp_path / "c.jsonl").write_text(json.dumps({"id": "\u00fc", "text": text}))
    run("index", "new", tmp_path / "c.jsonl", "--model", "MODEL")
    result = run("search", "new", "a", "--json")
    assert json.loads(result.stdout)["text"] == text
    assert f'"text": "{text}"' in result.stdout
    assert "\u00fc" in run("search", "new", "a").stdout


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--where", '{"year": {"$near": 3}}'], "unknown filter operator"),
        (["--where", "[]"], "a filter must be a mapping"),
        (["--where", "3"], "a filter must be a mapping"),
        (["--model", "nowhere"], "ModelNotFound"),
        (["--min-score", "nan"], "--min-score must be a finite number"),
        (
            ["--min-score", 0.5, "--mode", "words"],
            "--min-score is a similarity of vectors, which --mode words does not",
        ),
    ],
    ids=str,
)
def test_search_refuses_what_the_library_refuses(index, run, options, message):
    """Exit code 1, the library's message on stderr, nothing on stdout."""
    result = run("search", index, "a date", *options, exit_code=1)
    assert result.stderr.startswith("Error: ")
    assert message in result.stderr


def test_search_needs_the_models_own_vectors(tmp_path, index, run, encoder):
    """Another model than the index's is an EncoderMismatch that names the one needed."""
    shutil.copytree(encoder.folder, tmp_path / "other")
    spec = json.loads((tmp_path / "other" / "encoding.json").read_text())
    (tmp_path / "other" / "encoding.json").write_text(json.dumps({**spec, "document_length": 32}))
    result = run("search", index, "a date", "--model", tmp_path / "other", exit_code=1)
    assert "EncoderMismatch" in result.stderr
    assert encoder.hash[:12] in result.stderr
    assert "or use `refcolbert reencode` to change it" in result.stderr


@pytest.mark.parametrize(
    "args",
    [
        [],
        ["search"],
        ["search", "index"],
        ["search", "index", "query", "-k", "many"],
        ["search", "index", "query", "-k", "0"],
        ["search", "index", "query", "-k", "-5"],
        ["search", "index", "query", "--nprobe", "0"],
        ["search", "index", "query", "--candidates", "0"],
        ["search", "index", "query", "--wher", "{}"],
        ["search", "index", "query", "--mode", "bm25"],
        ["search", "index", "query", "--min-score", "much"],
        ["index", "new", "-", "--words", "porte"],
        ["compact", "index", "--words", "none"],
        ["index", "new"],
        ["index", "new", "there-is-no-such-file.jsonl"],
        ["add", "index", "there-is-no-such-file.jsonl"],
        ["delete", "index"],
        ["rerank", "query"],
        ["eval", "index", "--queries", "none.jsonl", "--qrels", "none.tsv"],
        ["eval", "index"],
        ["nonsense"],
    ],
    ids=" ".join,
)
def test_wrong_usage_is_exit_code_2(run, args):
    """Wrong arguments end with exit code 2 and the usage on stderr."""
    assert "Usage: " in run(*args, exit_code=2).stderr


@pytest.mark.parametrize("where", ["{", "", "year > 2020", "{'year': 3}"])
def test_a_filter_that_is_not_json_is_wrong_usage(index, run, where):
    """Exit code 2 and the option's name on stderr."""
    result = run("search", index, "a date", "--where", where, exit_code=2)
    assert "'--where': expected JSON" in result.stderr


@pytest.mark.parametrize(
    "args", [["search", "none", "q"], ["explain", "none", "q"], ["check", "none"], ["compact", "none"]], ids=" ".join
)
def test_a_path_without_an_index_is_named(run, args):
    """Exit code 1, the whole path and the verb that makes an index; nothing is created there."""
    message = f"IndexNotFound: there is no index at {Path('none').absolute()}; make one with `refcolbert index`"
    assert message in run(*args, exit_code=1).stderr
    assert "IndexNotFound" in run("delete", "none", "a", exit_code=1).stderr
    assert not Path("none").exists()


def test_a_query_that_is_cut_is_reported_once(index, run, caplog):
    """A query that is longer than the model reads is one line on stderr."""
    # `serve`, which quiets these warnings for its process, may have run in this one.
    with caplog.at_level(logging.WARNING, "refcolbert.lengths"):
        (line,) = run("search", index, "a date " * 600).stderr.splitlines()
    assert line.startswith("warning: 1 of 1 queries have more tokens than the ")


# ---- explain and rerank


def test_explain_prints_a_line_for_each_query_token(index, run, encoder):
    """The best document by default: its id, then token, similarity, bar and words; expansion tokens share a line."""
    lines = run("explain", index, "read the file line by line").stdout.splitlines()
    assert lines[0] == "file"
    labels = encoder.query_labels("read the file line by line")
    labels[labels.index("[unused0]")] = "[Q]"
    runs = [(token, len(list(group))) for token, group in groupby(labels)]
    expected = [token if count == 1 else f"{token} x{count}" for token, count in runs]
    assert [re.match(r" *(\S+( x\d+)?)  ", line)[1] for line in lines[1:-1]] == expected
    assert re.fullmatch(r" +line +\d\.\d{3} #+ +\S.*", lines[6])
    hit = json.loads(run("search", index, "read the file line by line", "--json", "-k", "1").stdout)
    assert lines[-1].split() == ["sum", f"{hit['score']:.3f}"]


def test_explain_json_adds_up(index, run):
    """The matches' similarities add up to the score of the document that --id names."""
    found = json.loads(run("explain", index, "parse a date", "--id", "wing", "--json").stdout)
    assert found["id"] == "wing"
    assert sum(match["similarity"] for match in found["matches"]) == pytest.approx(found["score"])
    text = "the boundary layer of a flow over a wing"
    assert all(match["text"] == text[slice(*match["span"])] for match in found["matches"] if match["span"])


def test_explain_prints_shared_words_below_the_table(index, run):
    """In a hybrid search each shared word has a line with its share of BM25 and its places; then comes their sum."""
    lines = run("explain", index, "read lining", "--mode", "hybrid", "--id", "file").stdout.splitlines()
    assert re.fullmatch(r" +read +\d\.\d{3} #{20} read", lines[-2])
    with Index.open(index) as opened:
        (hit,) = opened.search("read lining", 1, mode="hybrid", ids=["file"])
    assert lines[-3].split() == ["sum", f"{hit.parts.late:.3f}"]
    assert lines[-1].split() == ["sum", "of", "words", f"{hit.parts.words:.3f}"]


def test_explain_by_words_has_no_table_of_similarities(index, run):
    """In a search by words only the shared words are printed; in JSON their scores add up."""
    lines = run("explain", index, "line file", "--mode", "words").stdout.splitlines()
    assert [line.split()[0] for line in lines] == ["file", "line", "file", "sum"]
    assert lines[1].endswith(" line x2")
    found = json.loads(run("explain", index, "line file", "--mode", "words", "--json").stdout)
    assert found["matches"] == []
    assert sum(word["score"] for word in found["shared_words"]) == pytest.approx(found["score"])
    assert found["parts"] == {"late": None, "words": found["score"]}


def test_explain_says_that_there_is_no_word(index, run):
    """A search by words without a hit is a note on stderr."""
    result = run("explain", index, "wing", "--mode", "words", "--id", "date")
    assert (result.stdout, result.stderr) == ("", "note: no word of the query is in date\n")


def test_explain_refuses_an_unknown_id(index, run):
    """An id that is not there is an error, not an empty answer."""
    assert "UnknownId" in run("explain", index, "a date", "--id", "nowhere", exit_code=1).stderr


def test_rerank_sorts_texts(run, encoder):
    """The answer is the library's, as lines and as JSON; -k limits it."""
    texts = ["the wing", "read the file line by line", "a date"]
    hits = rerank("read the file line by line", texts, encoder)
    result = run("rerank", "read the file line by line", *texts, "--model", "MODEL")
    assert [line.split()[2] for line in result.stdout.splitlines()] == [hit.id for hit in hits]
    shown = run("rerank", "read the file line by line", *texts, "--model", "MODEL", "--json", "-k", 1).stdout
    best = {"rank": 1, "score": hits[0].score, "id": "1", "text": texts[1], "metadata": {}}
    best |= {"parts": {"late": hits[0].score, "words": None}, "similarity": hits[0].similarity}
    assert [json.loads(line) for line in shown.splitlines()] == [best]


# ---- changing an index


def test_add_delete_and_compact_change_the_index(tmp_path, index, run):
    """Each verb prints the index as it is afterwards."""
    (tmp_path / "more.tsv").write_text("new\twrite the file\nnewer\tclose the file\n")
    assert "index: 5 documents" in run("add", index, tmp_path / "more.tsv").stdout
    assert "index: 3 documents" in run("delete", index, "date", "new").stdout
    assert Index.open(index).info()["deleted"] > 0
    assert "index: 3 documents" in run("compact", index).stdout
    assert (Index.open(index).info()["deleted"], Index.open(index).ids()) == (0, ["file", "wing", "newer"])
    assert "index: 3 documents" in run("compact", index, "--refit").stdout
    assert Index.open(index).info()["centroids"] > 0
    run("check", index)


def test_add_refuses_an_id_that_is_there_unless_told_to_replace_it(tmp_path, index, run):
    """Without --upsert a known id changes nothing, with it the document is replaced."""
    (tmp_path / "more.tsv").write_text("new\twrite the file\ndate\tanother date\n")
    message = "DuplicateId: id 'date' is in the index already; use --upsert"
    assert message in run("add", index, tmp_path / "more.tsv", exit_code=1).stderr
    assert Index.open(index).ids() == ["date", "file", "wing"]
    assert "index: 4 documents" in run("add", index, tmp_path / "more.tsv", "--upsert").stdout
    assert [d.text for d in Index.open(index).get(["date"])] == ["another date"]


def test_delete_of_an_unknown_id_deletes_nothing(index, run):
    """One unknown id among known ones is exit code 1 and no change."""
    assert "'nowhere'" in run("delete", index, "date", "nowhere", exit_code=1).stderr
    assert len(Index.open(index)) == 3


# ---- looking at an index


def test_info_describes_an_index_and_a_model(index, run, encoder):
    """The files at the path decide between the two."""
    with Index.open(index) as opened:
        assert json.loads(run("info", index, "--json").stdout) == opened.info()
    assert json.loads(run("info", "MODEL", "--json").stdout) == encoder.info()
    assert re.search(r"^documents +3$", run("info", index).stdout, re.MULTILINE)
    assert re.search(rf"^hash +{encoder.hash}$", run("info", "MODEL").stdout, re.MULTILINE)
    assert "ModelNotFound" in run("info", "nowhere", exit_code=1).stderr


def test_check_counts_what_it_verified(index, run):
    """A sound index gives one line and success."""
    assert re.fullmatch(r".*index: sound, 3 documents, [\d,]+ bytes verified\n", run("check", index).stdout)


def damaged_files(index):
    """The data files of the current generation, its copy of the manifest among them."""
    manifest = (index / "manifest.json").read_text()
    newest = max((index / "data").glob("*-manifest.json"))
    return sorted(p for p in (index / "data").iterdir() if p.name in manifest or p == newest)


@pytest.mark.parametrize("damage", ["flip", "cut", "remove"])
def test_check_names_the_damaged_file(index, run, damage):
    """Each data file, when one bit of it flips, when it is cut or gone, makes check end with code 1 and its name."""
    assert len(damaged_files(index)) >= 3
    for path in damaged_files(index):
        whole = path.read_bytes()
        if damage == "remove":
            path.unlink()
        else:
            path.write_bytes(whole[:-1] if damage == "cut" else whole[:-1] + bytes([whole[-1] ^ 1]))
        result = run("check", index, exit_code=1)
        assert "CorruptIndexError" in result.stderr
        assert path.name in result.stderr
        path.write_bytes(whole)
    run("check", index)


# ---- demo, help


def test_demo_indexes_asks_and_explains(tmp_path, run, monkeypatch):
    """The first run makes the index, the second one uses it, and both answer every question."""
    few = [Document(id=f"m.{i}", text=f"m.{i}: {word} a date from a string") for i, word in enumerate(["parse", "run"])]
    monkeypatch.setattr(demo, "standard_library_docstrings", lambda: few)
    first = run("demo", "demo.index", "--model", "MODEL").stdout
    assert first.startswith("2 docstrings of Python's standard library -> demo.index\n")
    monkeypatch.setattr(demo, "standard_library_docstrings", lambda: pytest.fail("the index is there already"))
    second = run("demo", "demo.index", "--model", "MODEL").stdout
    assert first.endswith(second)
    assert re.findall(r"^\? (.*)$", second, re.MULTILINE) == list(demo.DEMO_QUESTIONS)
    assert re.search(rf"^Why m\.\d answers '{demo.DEMO_QUESTIONS[0]}':$", second, re.MULTILINE)
    assert second.endswith('Try your own: refcolbert search demo.index "..."\n')
    assert Index.open(tmp_path / "demo.index").ids() == ["m.0", "m.1"]


def test_version_is_the_packages(run):
    """--version names program and version."""
    assert run("--version").stdout == f"refcolbert, version {__version__}\n"


def test_help_lists_every_verb(run):
    """Each verb of ours is listed with a sentence, and torch is not imported for it."""
    before = "torch" in sys.modules
    listed = dict(re.findall(r"^  (\w+) +(\S.*)$", run("-h").stdout, re.MULTILINE))
    assert set(main.commands) <= set(listed)
    assert ("torch" in sys.modules) == before


# ---- snapshot and import


def test_a_snapshot_answers_like_its_index(index, run, tmp_path):
    """The copy gives the same answers, and an existing target is not overwritten."""
    run("snapshot", index, tmp_path / "copy")
    assert run("search", tmp_path / "copy", "a date").stdout == run("search", index, "a date").stdout
    assert "IndexExists" in run("snapshot", index, tmp_path / "copy", exit_code=1).stderr


def test_importing_what_is_no_index_is_refused(run, tmp_path):
    """A folder without the files of fast-plaid is named, and nothing is made."""
    (tmp_path / "source").mkdir()
    result = run("import", tmp_path / "source", tmp_path / "new", exit_code=1)
    assert "InvalidInput" in result.stderr
    assert not (tmp_path / "new").exists()


def test_tune_recommends_a_least_score(index, run, tmp_path):
    """With --no-answer, tune prints what thresholds lose and refuse; the JSON has the same recommendation."""
    (tmp_path / "asked.txt").write_text("read a file\nparse a date\nclose the file\n")
    (tmp_path / "other.txt").write_text("zebra stripes\nboil an egg\n")
    for other in (tmp_path / "other.txt", "shuffled"):
        options = ["tune", index, "--queries", tmp_path / "asked.txt", "--no-answer", other]
        found = json.loads(run(*options, "--json").stdout)
        assert list(found) == ["n_answered", "n_unanswered", "separation", "curve", "recommended"]
        assert (found["n_answered"], found["n_unanswered"]) == (3, 3 if other == "shuffled" else 2)
        lines = run(*options).stdout.splitlines()
        printed = float(lines[-1].removeprefix("for at most 5% lost: --min-score "))
        assert 0 <= found["recommended"]["min_score"] - printed < 0.001
        assert sum(line.endswith("<-") for line in lines) == 1
    assert "--no-answer requires --queries" in run("tune", index, "--no-answer", "shuffled", exit_code=2).stderr


def test_a_search_without_hits_says_so(index, run):
    """An empty answer is a note on stderr; stdout stays empty for programs."""
    for options in (["--mode", "words"], ["--min-score", "1.5"], ["--where", '{"year": 1}', "--json"]):
        result = run("search", index, "zebra", *options)
        assert result.stdout == ""
        assert result.stderr.endswith("note: no hits\n")


def test_sync_follows_a_folder(tmp_path, run):
    """New, changed, removed and unchanged texts are counted; INDEX is created by the first call."""
    folder = tmp_path / "notes"
    folder.mkdir()
    for name in ("one", "two", "three"):
        (folder / f"{name}.txt").write_text(f"text of {name}")
    assert run("sync", "i", folder, "--model", "MODEL").stdout == "i: 3 added, 0 changed, 0 removed, 0 unchanged\n"
    (folder / "one.txt").unlink()
    (folder / "two.txt").write_text("another text")
    (folder / "four.txt").write_text("text of four")
    found = json.loads(run("sync", "i", folder, "--json").stdout)
    assert found == {"added": 1, "changed": 1, "removed": 1, "unchanged": 1}
    assert Index.open("i").ids() == ["three.txt", "four.txt", "two.txt"]
    assert "found -" in run("sync", "i", "-", "--format", "jsonl", "--watch", exit_code=2).stderr


def test_a_wrong_source_makes_no_index(tmp_path, run):
    """What cannot be read is refused before an index is made."""
    (tmp_path / "broken.jsonl").write_text("{")
    run("sync", "i", tmp_path / "broken.jsonl", "--model", "MODEL", exit_code=1)
    run("sync", "i", tmp_path / "broken.jsonl", "--model", "MODEL", "--overlap", "3", exit_code=2)
    assert not (tmp_path / "i").exists()


def test_sync_does_not_delete_what_it_cannot_read(tmp_path, run, monkeypatch):
    """Without the library of a file's format, sync refuses: the file's documents would count as removed."""
    pytest.importorskip("bs4", reason="the extra `files` is not installed")
    folder = tmp_path / "notes"
    folder.mkdir()
    (folder / "one.txt").write_text("text of one")
    (folder / "two.html").write_text("<p>text of two</p>")
    run("sync", "i", folder, "--model", "MODEL")
    found = readers.find_spec
    monkeypatch.setattr(readers, "find_spec", lambda name: None if name == "bs4" else found(name))
    assert "refcolbert[files]" in run("sync", "i", folder, exit_code=1).stderr
    assert sorted(Index.open("i").ids()) == ["one.txt", "two.html"]


@contextmanager
def watching(source, model, folder):
    """`refcolbert sync i SOURCE --watch` in a process: a function that waits for its next line."""
    pytest.importorskip("watchfiles", reason="the extra `files` is not installed")
    # A shell lets the processes that it starts in the background ignore SIGINT, and their children inherit that.
    heard = {"preexec_fn": lambda: signal.signal(signal.SIGINT, signal.SIG_DFL)}
    program = "import sys; from refcolbert.cli import main; sys.exit(main())"
    command = [sys.executable, "-c", program, "sync", "i", source, "--model", model, "--watch"]
    output = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "text": True}
    with subprocess.Popen(command, cwd=folder, **output, **heard) as process:

        def line():
            assert select.select([process.stdout], [], [], 30)[0]
            return process.stdout.readline()

        try:
            yield line
        finally:
            process.send_signal(signal.SIGINT)
            try:
                assert process.wait(30) == 130
            finally:
                process.kill()


def test_sync_watches_a_folder(tmp_path, encoder):
    """With --watch, a file that changes is indexed without another call."""
    folder = tmp_path / "notes"
    folder.mkdir()
    (folder / "one.txt").write_text("text of one")
    with watching(folder, encoder.folder, tmp_path) as line:
        assert line() == "i: 1 added, 0 changed, 0 removed, 0 unchanged\n"
        (folder / "two.txt").write_text("text of two")
        assert line() == "i: 1 added, 0 changed, 0 removed, 1 unchanged\n"
    assert sorted(Index.open(tmp_path / "i").ids()) == ["one.txt", "two.txt"]


def test_sync_watches_a_file_that_is_replaced(tmp_path, encoder):
    """With --watch, a file is followed when another one is renamed to its name, each time."""
    (tmp_path / "one.txt").write_text("text 0")
    with watching(tmp_path / "one.txt", encoder.folder, tmp_path) as line:
        assert line() == "i: 1 added, 0 changed, 0 removed, 0 unchanged\n"
        for i in (1, 2):
            (tmp_path / "new").write_text(f"text {i}")
            (tmp_path / "new").rename(tmp_path / "one.txt")
            assert line() == "i: 0 added, 1 changed, 0 removed, 0 unchanged\n"


def test_sync_goes_on_after_a_file_that_cannot_be_read(tmp_path, encoder):
    """With --watch, a wrong line is reported, and the file is read again when it has changed."""
    (tmp_path / "one.jsonl").write_text('{"text": "one"}\n{"te')
    with watching(tmp_path / "one.jsonl", encoder.folder, tmp_path) as line:
        assert "one.jsonl" in line()
        (tmp_path / "one.jsonl").write_text('{"text": "one"}\n{"text": "two"}\n')
        assert line() == "i: 2 added, 0 changed, 0 removed, 0 unchanged\n"


def test_verbs_take_urls(tmp_path, index, run):
    """snapshot publishes at a URL; search, info, check and eval read it there; a write is refused."""
    url = f"file://{tmp_path}/published"
    assert "3 documents" in run("snapshot", index, url).stdout
    assert run("search", url, "a date").stdout == run("search", index, "a date").stdout
    assert "sound" in run("check", url).stdout
    assert json.loads(run("info", url, "--json").stdout)["documents"] == 3
    assert url in run("delete", url, "date", exit_code=1).stderr
