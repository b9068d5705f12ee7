"""Documents at the root: snippets run, commands exist, links lead somewhere."""

import re
from pathlib import Path

import pytest
from click.testing import CliRunner

from refcolbert import Encoder, __version__
from refcolbert.cli import main

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text()
TINY = Path(__file__).parents[1] / "models" / "tiny"


def blocks(language):
    """The fenced blocks of the README in one language."""
    return re.findall(rf"```{language}\n(.*?)```", README, re.DOTALL)


def test_quickstart_runs(tmp_path, monkeypatch):
    """Every Python block of the README runs, in order, in one session, with the tiny model as the default."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("refcolbert.encoding.encoder.default_model_folder", lambda: TINY)
    session = {}
    assert blocks("python")
    for block in blocks("python"):
        exec(compile(block, "README.md", "exec"), session)  # noqa: S102 - our own README
    assert session["index"].search("parse a date", k=2)[0].rank == 1


def test_command_lines_name_real_verbs_and_options():
    """Every `refcolbert ...` line of the README is a verb with options that it has."""
    runner = CliRunner()
    lines = [line for block in blocks("console") for line in block.splitlines() if line.startswith("$ refcolbert")]
    assert lines
    for line in lines:
        words = line.split("#")[0].split()[2:]
        shown = runner.invoke(main, [words[0], "--help"])
        assert shown.exit_code == 0, line
        for option in (w for w in words if w.startswith("-")):
            assert re.search(rf"(^|[\s,]){re.escape(option)}\b", shown.output), f"{option} in {line}"


@pytest.mark.parametrize("name", ["README.md", "ARCHITECTURE.md", "CONTRIBUTING.md", "SECURITY.md", "CHANGELOG.md"])
def test_links_lead_somewhere(name):
    """Relative links point at files of the repository."""
    text = (ROOT / name).read_text()
    for target in re.findall(r"\]\(([^)#]+)(?:#[^)]*)?\)", text):
        if "://" not in target:
            assert (ROOT / target).exists(), target


def test_architecture_names_every_folder():
    """Each folder of the core is on the map of ARCHITECTURE.md."""
    text = (ROOT / "ARCHITECTURE.md").read_text()
    folders = [f"{path.parent.name}/" for path in (ROOT / "refcolbert").glob("*/__init__.py")]
    assert not [folder for folder in folders if folder not in text]


def test_first_pages_are_short():
    """README.md has at most 950 words, ARCHITECTURE.md less than 10 KB: longer texts have pages under docs/."""
    assert len(README.split()) <= 950
    assert (ROOT / "ARCHITECTURE.md").stat().st_size < 10_000


def test_the_current_version_is_everywhere():
    """CHANGELOG.md has an entry for the version of the package, and CITATION.cff names it."""
    assert f"## {__version__}" in (ROOT / "CHANGELOG.md").read_text()
    assert f"\nversion: {__version__}\n" in (ROOT / "CITATION.cff").read_text()


def test_loading_is_what_the_snippets_assume():
    """The tiny model that stands in for the default one is a whole model folder."""
    assert Encoder.load(TINY).dim == 16
