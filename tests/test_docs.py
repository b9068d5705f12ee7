"""The documents are true: snippets run, commands exist, links lead somewhere."""

import re
from pathlib import Path

import pytest
from click.testing import CliRunner

from refcolbert import Encoder
from refcolbert.cli import main

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text()
TINY = Path(__file__).parent / "models" / "tiny"


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


def test_every_verb_is_in_the_readme():
    """The README lists each verb of the command line."""
    verbs = main.list_commands(None)
    missing = [verb for verb in verbs if f"refcolbert {verb}" not in README]
    assert not missing


@pytest.mark.parametrize("name", ["README.md", "ARCHITECTURE.md", "CONTRIBUTING.md", "SECURITY.md", "CHANGELOG.md"])
def test_links_lead_somewhere(name):
    """Relative links point at files of the repository."""
    text = (ROOT / name).read_text()
    for target in re.findall(r"\]\(([^)#]+)(?:#[^)]*)?\)", text):
        if "://" not in target:
            assert (ROOT / target).exists(), target


def test_architecture_names_every_room():
    """Each module of the core has its line in ARCHITECTURE.md."""
    text = (ROOT / "ARCHITECTURE.md").read_text()
    rooms = [p.name for p in (ROOT / "refcolbert").glob("*.py") if p.name != "__init__.py"]
    rooms += [f"{p.parent.name}/" for p in (ROOT / "refcolbert").glob("*/__init__.py")]
    assert not [room for room in rooms if room not in text]


def test_changelog_names_the_current_version():
    """The version that is being shipped has an entry."""
    from refcolbert import __version__

    assert f"## {__version__}" in (ROOT / "CHANGELOG.md").read_text()


def test_loading_is_what_the_snippets_assume():
    """The tiny model that stands in for the default one is a whole model folder."""
    assert Encoder.load(TINY).dim == 16
