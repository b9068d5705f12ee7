"""The scripts in examples/ run and print what they promise, with the model of the package."""

import runpy
from pathlib import Path

import pytest

EXAMPLES = Path(__file__).parents[1] / "examples"
SCRIPTS = sorted(EXAMPLES.glob("*.py"))


@pytest.fixture
def run(tmp_path, monkeypatch):
    """Run a script as the program in an empty folder; returns its names."""
    monkeypatch.chdir(tmp_path)

    def run_script(name, *arguments):
        monkeypatch.setattr("sys.argv", [name, *arguments])
        return runpy.run_path(str(EXAMPLES / name), run_name="__main__")

    return run_script


def test_a_folder_is_searched_and_followed(tmp_path, run, capsys):
    """The second run encodes nothing and finds the same."""
    (tmp_path / "notes").mkdir()
    (tmp_path / "notes" / "dates.md").write_text("# Dates\nstrptime turns a text into a date\n")
    (tmp_path / "notes" / "data.csv").write_text("id,text\nfruit,A date grows on a palm\n")
    run("search_folder.py", "notes", "how do I parse a date")
    first, *hits = capsys.readouterr().out.splitlines()
    run("search_folder.py", "notes", "how do I parse a date")
    second, *again = capsys.readouterr().out.splitlines()
    assert (first, second) == (
        "Synced(added=2, changed=0, removed=0, unchanged=0)",
        "Synced(added=0, changed=0, removed=0, unchanged=2)",
    )
    assert hits == again
    assert hits[0].endswith("dates.md")


def test_the_best_of_what_words_find_comes_first(run, capsys):
    """BM25 is misled by a word, and ColBERT is not."""
    pytest.importorskip("bm25s")
    run("rerank_bm25.py")
    best = capsys.readouterr().out.partition("ColBERT:\n")[2].splitlines()[0]
    assert best.endswith("strptime turns a text into a date")


def test_a_tool_answers_calls_and_says_errors(run, capsys):
    """The printed answer has the best note; a wrong call gives an error that a model can read."""
    names = run("agent_tool.py")
    assert "strptime turns a text into a date" in capsys.readouterr().out
    call = {"id": "c", "function": {"arguments": '{"query": 3}'}}
    assert names["answer"](names["notes"], call)["content"].startswith("error: ")
    assert set(names["TOOL"]["function"]["parameters"]["properties"]) == {"query", "k"}


def test_a_fastapi_application_answers(run):
    """A search, a note, an unknown note and a wrong number."""
    pytest.importorskip("fastapi")
    from fastapi.testclient import TestClient

    client = TestClient(run("fastapi_service.py")["app"])
    (hit,) = client.get("/search", params={"q": "parse a date", "k": 1}).json()
    assert hit["id"] == "dates"
    assert client.get("/notes/files").json() == {"id": "files", "text": "open a file", "metadata": {}}
    assert [client.get(path).status_code for path in ("/notes/none", "/search?q=x&k=0")] == [404, 422]


def test_a_notebook_runs_from_top_to_bottom(run, capsys):
    """Its cells give answers, an explanation and a filter."""
    names = run("notebook.py")
    assert names["hits"][0].id == "dates"
    assert "strptime" in names["hits"]._repr_html_()
    assert capsys.readouterr().out.splitlines()[-1] in ("['rows', 'files']", "['files', 'rows']")


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda path: path.name)
def test_examples_are_short_and_listed(script):
    """An example has less than 60 lines, and the README of the folder names it."""
    assert script.read_text().count("\n") < 60
    assert f"[{script.name}]({script.name})" in (EXAMPLES / "README.md").read_text()
