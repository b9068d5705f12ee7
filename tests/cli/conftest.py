"""Shared by the tests of the command line: a BEIR folder, an index of it, and a way to run a verb."""

import json

import pytest
from click.testing import CliRunner

CORPUS = [
    {"_id": "date", "title": "Dates", "text": "parse a date from a string", "year": 2019},
    {"_id": "file", "title": "", "text": "read the file line by line", "year": 2021},
    {"_id": "wing", "title": "", "text": "the boundary layer of a flow over a wing", "year": 2023},
]
QUERIES = [{"_id": "q1", "text": "parse a date"}, {"_id": "q2", "text": "read the file line by line"}]


@pytest.fixture(autouse=True)
def no_default_model(tmp_path, monkeypatch):
    """The default model is looked for in the test's folder, where a test may put one."""
    monkeypatch.setattr("refcolbert.encoding.encoder.default_model_folder", lambda: tmp_path / "default_model")
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def run(encoder):
    """Run the command line; "MODEL" among the arguments is replaced by the tiny model's folder."""
    from refcolbert.cli import main

    def invoke(*args, exit_code=0, stdin=None):
        texts = [str(encoder.folder) if arg == "MODEL" else str(arg) for arg in args]
        result = CliRunner().invoke(main, texts, input=stdin)
        expected = result.exit_code == exit_code
        assert expected, f"{texts}: exit code {result.exit_code}\n{result.output}{result.exception!r}"
        assert exit_code == 0 or result.stdout == ""
        assert "Traceback" not in result.output
        return result

    return invoke


@pytest.fixture
def beir(tmp_path):
    """A BEIR folder of three documents, two queries and judgements, of which one is for an unknown query."""
    folder = tmp_path / "beir"
    (folder / "qrels").mkdir(parents=True)
    for name, records in (("corpus", CORPUS), ("queries", QUERIES)):
        (folder / f"{name}.jsonl").write_text("".join(json.dumps(record) + "\n" for record in records))
    judged = "query-id\tcorpus-id\tscore\nq1\tdate\t1\nq2\tfile\t1\n"
    (folder / "qrels" / "test.tsv").write_text(judged)
    return folder


@pytest.fixture
def index(tmp_path, beir, run):
    """An index of the BEIR folder."""
    run("index", tmp_path / "index", beir, "--model", "MODEL")
    return tmp_path / "index"
