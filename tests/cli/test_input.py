"""Documents on the command line: stdin, layouts, passages, and documents replaced and deleted with all of them."""

import gzip
import json

import pytest

from refcolbert import Index

LONG = " ".join(f"{verb} the {noun} now" for verb in ("read", "write", "close") for noun in ("file", "date", "wing"))


def test_stdin_is_read_in_the_layout_that_is_said(run):
    """The index is that of a file of the same content."""
    run("index", "piped", "-", "--format", "csv", "--model", "MODEL", stdin="id,text,year\na,read the file,2020\n")
    assert [(d.id, d.text, d.metadata) for d in Index.open("piped").get(["a"])] == [
        ("a", "read the file", {"year": 2020})
    ]
    run("add", "piped", "-", "--format", "jsonl", stdin='{"id": "b", "text": "a date"}\n')
    assert Index.open("piped").ids() == ["a", "b"]


def test_stdin_needs_a_layout(run):
    """stdin requires --format; an error names a bad line as one of stdin."""
    assert "--format" in run("index", "new", "-", "--model", "MODEL", stdin="x", exit_code=2).stderr
    result = run("index", "new", "-", "--format", "jsonl", "--model", "MODEL", stdin="{}\n", exit_code=1)
    assert "stdin:1: expected a field 'text', found []" in result.stderr


def test_several_layouts_make_one_index(tmp_path, run):
    """CSV, Markdown and compressed JSONL go into the same index."""
    (tmp_path / "a.csv").write_text("id,text\na,one\n")
    (tmp_path / "b.md").write_text("# B\nx\n# C\ny\n")
    (tmp_path / "c.jsonl.gz").write_bytes(gzip.compress(b'{"id": "c", "text": "three"}'))
    run("index", "new", "a.csv", "b.md", "c.jsonl.gz", "--model", "MODEL")
    assert Index.open("new").ids() == ["a", "b.md#b", "b.md#c", "c"]


def test_files_that_are_left_out_are_named_once(tmp_path, run):
    """A folder is read twice, but the warning about its other files comes once, and their text can be named."""
    (tmp_path / "notes").mkdir()
    (tmp_path / "notes" / "README.md").write_text("read me")
    (tmp_path / "notes" / "data.jsonl").write_text('{"sku": "d", "body": "data"}')
    result = run("index", "new", "notes", "--model", "MODEL")
    assert result.stderr.count("left out .jsonl without a field 'text' (1)") == 1
    run("add", "new", "notes/data.jsonl", "--text-field", "body", "--id-field", "sku")
    assert Index.open("new").ids() == ["README.md", "d"]


def test_stdin_has_fields_of_other_names(run):
    """--text-field and --id-field name the columns of stdin, too."""
    stdin = "sku,body\na,read the file\n"
    fields = ["--text-field", "body", "--id-field", "sku"]
    run("index", "piped", "-", "--format", "csv", *fields, "--model", "MODEL", stdin=stdin)
    assert [(d.id, d.text) for d in Index.open("piped").get(["a"])] == [("a", "read the file")]


def test_passages_are_found_as_one_document(tmp_path, run):
    """--group counts the passages of a document once, by its best."""
    (tmp_path / "long.txt").write_text(LONG)
    (tmp_path / "short.txt").write_text("close the wing")
    run("index", "new", "long.txt", "short.txt", "--model", "MODEL", "--passages", 8, "--overlap", 2)
    assert Index.open("new").ids() == [*(f"long.txt@{i}" for i in range(6)), "short.txt"]
    plain = [json.loads(line) for line in run("search", "new", "close the wing", "--json").stdout.splitlines()]
    grouped = run("search", "new", "close the wing", "--json", "--group").stdout.splitlines()
    found = [json.loads(line) for line in grouped]
    assert len(plain) == 7
    assert {hit["metadata"].get("passage_of", hit["id"]) for hit in found} == {"long.txt", "short.txt"}
    best = next(hit for hit in plain if hit["id"].startswith("long"))
    assert best["id"] in [hit["id"] for hit in found]


def test_passages_in_tokens_fill_the_model(tmp_path, run, encoder):
    """No passage is longer than the model reads, and together they hold all words."""
    (tmp_path / "long.txt").write_text(LONG * 4)
    run("index", "new", "long.txt", "--model", "MODEL", "--passages", "tokens", "--overlap", 0)
    texts = [d.text for d in Index.open("new").get(Index.open("new").ids())]
    assert len(texts) > 1
    assert " ".join(texts).split() == (LONG * 4).split()
    assert all(sum(encoder.tokenizer.lengths(text.split())) <= encoder.tokenizer.document_room for text in texts)


def test_a_document_too_long_for_the_model_is_said(tmp_path, run, encoder):
    """The note counts documents and names the remedy; passages need none."""
    (tmp_path / "c.tsv").write_text(f"a\t{LONG * 4}\nb\tshort\n")
    (line,) = run("index", "new", "c.tsv", "--model", "MODEL").stderr.splitlines()
    assert line.startswith("note: 1 of 2 documents")
    assert run("index", "cut", "c.tsv", "--model", "MODEL", "--passages", "tokens").stderr == ""


def test_a_log_file_gets_lines_of_progress(tmp_path, run, monkeypatch):
    """Where stderr is not a terminal, a line says now and then how many documents are encoded."""
    (tmp_path / "c.tsv").write_text("a\tshort\nb\tshort, too\n")
    assert run("index", "quick", "c.tsv", "--model", "MODEL").stderr == ""
    monkeypatch.setattr("refcolbert.encoding.encoder.PROGRESS_SECONDS", 0.0)
    lines = run("index", "new", "c.tsv", "--model", "MODEL").stderr.splitlines()
    assert lines[-1] == "info: documents encoded so far: 2"


def test_upsert_and_delete_take_all_passages(tmp_path, run):
    """A shorter new state leaves no passage of the old one; --group deletes by the document's name."""
    (tmp_path / "a.txt").write_text(LONG)
    (tmp_path / "b.txt").write_text(LONG)
    run("index", "new", "a.txt", "b.txt", "--model", "MODEL", "--passages", 10)
    (tmp_path / "a.txt").write_text(LONG[: len(LONG) // 2])
    run("add", "new", "a.txt", "--upsert", "--passages", 10)
    names = Index.open("new").ids()
    assert [name for name in names if name.startswith("a")] == ["a.txt@0", "a.txt@1"]
    (tmp_path / "a.txt").write_text("short now")
    run("add", "new", "a.txt", "--upsert")
    assert [name for name in Index.open("new").ids() if name.startswith("a")] == ["a.txt"]
    assert "UnknownId" in run("delete", "new", "b.txt", exit_code=1).stderr
    run("delete", "new", "b.txt", "--group")
    assert Index.open("new").ids() == ["a.txt"]


@pytest.mark.parametrize(
    "options",
    [["--passages", "0"], ["--passages", "many"], ["--passages", "-3"], ["--overlap", "3"], ["--format", "xml"]],
    ids=" ".join,
)
def test_options_that_say_nothing_are_wrong_usage(tmp_path, run, options):
    """Exit code 2, and nothing is made."""
    (tmp_path / "a.txt").write_text(LONG)
    run("index", "new", "a.txt", "--model", "MODEL", *options, exit_code=2)
    assert not (tmp_path / "new").exists()
