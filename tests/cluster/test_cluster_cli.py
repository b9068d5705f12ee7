"""`refcolbert index` with workers."""

import json

import pytest
from click.testing import CliRunner
from clusters import TINY, documents

from refcolbert import Index, open_index
from refcolbert.cli import main


@pytest.fixture
def files(tmp_path):
    """A folder with a JSONL file and one with Markdown; the documents are longer than a passage of five words."""
    (tmp_path / "lines").mkdir()
    (tmp_path / "pages").mkdir()
    rows = [json.dumps({"text": d["text"]}) + "\n" for d in documents(40)]
    (tmp_path / "lines" / "a.jsonl").write_text("".join(rows))
    for name in ("a", "b"):
        (tmp_path / "pages" / f"{name}.md").write_text(f"# Title {name}\n\nA text of more than five words.\n")
    return tmp_path


def run(*words):
    """What a command prints, and how it ends."""
    return CliRunner().invoke(main, [str(word) for word in words])


def test_workers_make_the_documents_of_one_process(files):
    """--workers gives a sharded index with the ids and texts that the command gives without it."""
    arguments = [files / "lines", files / "pages", "--model", TINY, "--passages", "5"]
    for name, more in (("one", []), ("many", ["--workers", 1])):
        assert run("index", files / name, *arguments, *more).exit_code == 0
    one, many = Index.open(files / "one"), open_index(files / "many")
    assert len(many.shards) == 2
    assert many.get(many.ids()) == one.get(one.ids())


def test_workers_read_the_named_fields(files):
    """--workers takes text and id from the fields that --text-field and --id-field name, in JSONL and other files."""
    (files / "named").mkdir()
    (files / "named" / "a.jsonl").write_text(
        '{"body": "one text", "key": "k1", "id": 7}\n{"body": "two", "key": "k2"}\n'
    )
    (files / "named" / "b.csv").write_text("key,body\nk3,three\n")
    arguments = [files / "named", "--model", TINY, "--text-field", "body", "--id-field", "key"]
    for name, more in (("one", []), ("many", ["--workers", 1])):
        done = run("index", files / name, *arguments, *more)
        assert done.exit_code == 0, done.output
    one, many = Index.open(files / "one"), open_index(files / "many")
    assert many.ids() == ["k1", "k2", "k3"]
    assert many.get(many.ids()) == one.get(one.ids())


def test_a_url_is_built(files):
    """An index is built at a URL, which the other commands take."""
    url = f"file://{files}/objects"
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", str(files / "cache"))
        done = run("index", url, files / "lines", "--model", TINY, "--workers", 1)
        assert done.exit_code == 0, done.output
        assert "40 documents" in done.stdout
        assert run("info", url).exit_code == 0


def test_a_scheduler_is_used(files, processes):
    """--dask builds with the workers of the scheduler at that address."""
    done = run("index", files / "x", files / "lines", "--model", TINY, "--dask", processes.scheduler.address)
    assert done.exit_code == 0, done.output
    assert "40 documents" in done.stdout


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--workers", "1", "--dask", "tcp://x"], "found both"),
        (["-", "--format", "jsonl", "--workers", "1"], "found -"),
        (["--overlap", "1", "--workers", "1"], "requires --passages"),
    ],
)
def test_options_that_contradict_are_refused(files, words, message):
    """A wrong combination is named before anything starts."""
    done = run("index", files / "x", files / "lines", "--model", TINY, *words)
    assert (done.exit_code, message in done.stderr) == (2, True)
