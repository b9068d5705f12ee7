"""The pages under docs/: commands and Python of inputs.md and evaluation.md run; cli.md is what click says."""

import contextlib
import gzip
import json
import re
import shlex
import shutil
from pathlib import Path

import pytest
from click.testing import CliRunner

from refcolbert.cli import main
from tools.release import cli_docs

DOCS = Path(__file__).parents[2] / "docs"
TINY = Path(__file__).parents[1] / "models" / "tiny"
CORPUS = [{"_id": "d1", "text": "read a file line by line"}, {"_id": "d2", "text": "parse a date"}]


def blocks(page, language):
    """The fenced blocks of a page in one language."""
    return re.findall(rf"```{language}\n(.*?)```", (DOCS / page).read_text(), re.DOTALL)


@pytest.fixture
def desk(tmp_path, monkeypatch):
    """A folder with the files that the pages speak of, and the tiny model as the default."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("refcolbert.encoding.encoder.default_model_folder", lambda: TINY)
    notes = {"guide.md": "# Guide\n## Files\nread a file\n## Dates\nparse a date\n", "long.txt": "read the file " * 100}
    for name, text in notes.items():
        (tmp_path / "notes").mkdir(exist_ok=True)
        (tmp_path / "notes" / name).write_text(text)
    (tmp_path / "table.csv").write_text("id,text,year\nt,a row about files,2021\n")
    (tmp_path / "products.csv").write_text("sku,description\n7,a lamp\n")
    lines = '{"id": "m", "text": "read a file", "year": 2022}\n'
    (tmp_path / "more.jsonl").write_text(lines)
    (tmp_path / "more.jsonl.gz").write_bytes(gzip.compress(lines.encode()))
    (tmp_path / "beir" / "qrels").mkdir(parents=True)
    for name in ("corpus", "queries"):
        (tmp_path / "beir" / f"{name}.jsonl").write_text("".join(json.dumps(record) + "\n" for record in CORPUS))
    (tmp_path / "beir" / "qrels" / "test.tsv").write_text("query-id\tcorpus-id\tscore\nd1\td1\t1\nd2\td2\t1\n")
    (tmp_path / "other.trec").write_text("d1 Q0 d2 1 1.0 other\n")
    assert CliRunner().invoke(main, ["index", "corpus.idx", "beir"]).exit_code == 0
    return tmp_path


@pytest.mark.parametrize("page", ["inputs.md", "evaluation.md"])
def test_every_command_and_snippet_of_a_page_runs(desk, page):
    """In order, in one folder: each command ends with 0 and says something, each Python block raises nothing."""
    commands = [line[2:] for block in blocks(page, "console") for line in block.splitlines() if line.startswith("$ ")]
    commands = [command for command in commands if "refcolbert " in command.split("pip install")[0]]
    assert len(commands) >= 4
    for command in commands:
        left, _, right = command.rpartition(" | ")
        piped = Path(left.removeprefix("cat ")).read_text() if left else None
        done = CliRunner().invoke(main, shlex.split(right)[1:], input=piped)
        assert (done.exit_code, bool(done.stdout)) == (0, True), f"{command}\n{done.output}"
    assert blocks(page, "python")
    with (desk / "printed").open("w") as printed, contextlib.redirect_stdout(printed):
        for block in blocks(page, "python"):
            exec(compile(block, page, "exec"), {})  # noqa: S102 - our own page


def test_the_list_of_verbs_is_what_click_says():
    """docs/cli.md is up to date."""
    assert cli_docs.PAGE.read_text() == cli_docs.page(), "the help has changed: python -m tools.release.cli_docs"


def test_the_page_of_completion_is_what_shells_understand(desk):
    """The lines that a user copies ask the program for the script of the shell that stands behind them."""
    lines = re.findall(r"_REFCOLBERT_COMPLETE=(\w+)_source refcolbert.*(bash|zsh|fish)", cli_docs.BEGINNING)
    assert [shell for shell, _ in lines] == [shell for _, shell in lines] == ["bash", "zsh", "fish"]
    for shell, _ in lines:
        if shell != "bash" or shutil.which("bash"):
            done = CliRunner(env={"_REFCOLBERT_COMPLETE": f"{shell}_source"}).invoke(main, [], prog_name="refcolbert")
            assert "refcolbert" in done.stdout
