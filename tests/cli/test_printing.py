"""Explanations in a terminal: colors only where they are wanted, and texts that cannot command it."""

import os
import pty
import re
import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner

from refcolbert import Index, rerank
from refcolbert.cli import main, printing
from refcolbert.evaluation.no_answer import Threshold, Thresholds

MODEL = Path(__file__).parents[1] / "models" / "tiny"
ANSI = re.compile(r"\x1b\[[\d;]*m")


@pytest.fixture(scope="module")
def index(tmp_path_factory, encoder):
    """An index of one document, whose text tries to set the window's title and to clear the screen."""
    path = tmp_path_factory.mktemp("terminal") / "index"
    with Index.create(path, encoder) as made:
        made.add([{"id": "evil\x1b[2J", "text": "parse a date\x1b]0;title\x07\n\x1b[2J from a string"}])
    return path


def in_a_terminal(*args, **environment):
    """The output of `refcolbert` in a terminal of its own."""
    main_end, other_end = pty.openpty()
    clean = {name: value for name, value in os.environ.items() if name != "NO_COLOR"}
    command = [sys.executable, "-c", "from refcolbert.cli import main; main()", *map(str, args)]
    with subprocess.Popen(command, stdout=other_end, env={**clean, "TERM": "xterm", **environment}) as process:
        os.close(other_end)
        out = b""
        while chunk := _read(main_end):
            out += chunk
    os.close(main_end)
    assert process.returncode == 0
    return out.decode().replace("\r\n", "\n")


def _read(end):
    try:
        return os.read(end, 65536)
    except OSError:  # the other end is closed
        return b""


@pytest.mark.skipif(os.name == "nt", reason="Windows has no pty")
def test_a_terminal_gets_colors(index):
    """On a terminal words have the colors of the query's words, and only colors are escape sequences."""
    shown = in_a_terminal("explain", index, "parse a date")
    plain = ANSI.sub("", shown)
    assert "\x1b" in shown
    assert "\x1b" not in plain
    assert "\x07" not in plain
    assert "parse a date\ufffd]0;title\ufffd\n\ufffd[2J from a string" in plain.replace(" [CLS] ", "")
    color = re.search(r"\x1b\[(38;5;\d+)m +date\x1b", shown)[1]
    assert re.search(rf"\x1b\[{color}m(\x1b\[\d+m)*[^\x1b\n]+\x1b\[0m[^\n]*\n", shown.split("sum")[1])


@pytest.mark.skipif(os.name == "nt", reason="Windows has no pty")
@pytest.mark.parametrize("verb", ["explain", "search"])
@pytest.mark.parametrize("environment", [{"NO_COLOR": "1"}, {"TERM": "dumb"}], ids=str)
def test_a_terminal_without_colors_gets_none(index, environment, verb):
    """NO_COLOR and a dumb terminal are obeyed, and the answer is the one that a pipe gets."""
    piped = CliRunner().invoke(main, [verb, str(index), "parse a date"]).stdout
    assert in_a_terminal(verb, index, "parse a date", **environment) == piped
    assert "\x1b" not in piped


LAST = "No rain today. The cat sat on a mat."
DATES = f"Strings\n\nNothing is known. We parse\na date from a string. {'x ' * 400}{LAST}"


@pytest.fixture(scope="module")
def dates(tmp_path_factory, encoder):
    """An index of one document with a title and long sentences."""
    path = tmp_path_factory.mktemp("dates") / "index"
    with Index.create(path, encoder) as made:
        made.add([{"id": "dates", "text": DATES, "metadata": {"title": "Strings"}}])
    return path


@pytest.mark.skipif(os.name == "nt", reason="Windows has no pty")
@pytest.mark.parametrize("mode", ["late", "words", "hybrid"])
def test_search_in_a_terminal_shows_the_sentence_that_matches(dates, mode):
    """Below a hit is the best sentence behind the title; in it the words that match have colors, or are reversed."""
    first, second = in_a_terminal("search", dates, "parse a date", "--mode", mode).splitlines()
    assert re.fullmatch(r"  1 .*  dates  Strings", ANSI.sub("", first))
    assert ANSI.sub("", second) == "     We parse a date from a string."
    painted = re.findall(r"((?:\x1b\[[\d;]+m)+)(\w+)\x1b\[0m", second)
    assert [word for codes, word in painted if "[7m" in codes] == ["parse", "a", "date", "a"] * (mode != "late")
    with Index.open(dates) as opened:
        explanation = opened.search("parse a date", mode=mode)[0].explain()
    own = [number for number, word in enumerate(explanation.words) if word.kind == "text"]
    answered = [(s.text, s.answers[0].word) for s in explanation.segments if s.answers and s.answers[0].word in own]
    colors = [(word, int(code[1])) for codes, word in painted if (code := re.search(r"38;5;(\d+)", codes))]
    inside = [(word, number) for word, number in answered if word in ANSI.sub("", second).split()]
    assert colors == [(word, printing.INKS[own.index(number)]) for word, number in inside]
    assert bool(colors) == (mode != "words")


@pytest.mark.skipif(os.name == "nt", reason="Windows has no pty")
def test_a_sentence_without_an_end_is_cut(dates):
    """Of an endless sentence there is the part that matches, in one line."""
    shown = in_a_terminal("search", dates, "xx rain", "--mode", "words").splitlines()[1]
    plain = ANSI.sub("", shown).strip()
    assert plain.endswith("x No rain today.")
    assert len(plain) <= 240


def test_colors_can_be_forced_and_forbidden(index, monkeypatch):
    """--color overrides both the kind of stdout and NO_COLOR."""
    monkeypatch.setenv("NO_COLOR", "1")
    forced = CliRunner().invoke(main, ["explain", str(index), "parse a date", "--color", "always"]).stdout
    never = CliRunner().invoke(main, ["explain", str(index), "parse a date", "--color", "never"]).stdout
    assert "\x1b[38;5;" in forced
    assert "\x1b" not in never
    assert ANSI.sub("", forced).startswith(never)


@pytest.mark.parametrize("mode", ["words", "hybrid"])
def test_shared_words_are_reversed(index, mode):
    """In color, each place of a word that query and document share is reversed."""
    shown = CliRunner().invoke(main, ["explain", str(index), "dating a", "--mode", mode, "--color", "always"]).stdout
    found = re.findall(r"\x1b\[7m([^\x1b]*)", shown)
    assert found == ["a", "a"]
    assert "\x1b[7mdate" not in shown  # unicode61 has no stems


def test_the_table_adds_up(encoder):
    """Each query word has a line with its share of the score; expansion tokens share one; the last line is the sum."""
    (hit,) = rerank("parse a date", ["a date from a string"], encoder)
    *lines, last = printing.table(hit.explain()).splitlines()
    parts = [float(re.search(r" (-?\d+\.\d{3}) ", line)[1]) for line in lines]
    assert len(parts) == len(hit.explain().words) == 7
    assert sum(parts) == pytest.approx(hit.score, abs=0.0005 * len(parts))
    assert last.split() == ["sum", f"{hit.score:.3f}"]


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("a\tb\nc", "a\tb\nc"),
        ("\x1b[31m", "\ufffd[31m"),
        ("\x07\x00\x7f\x9b", "\ufffd" * 4),
        ("\u4e2d \U0001f600 \u05d0", "\u4e2d \U0001f600 \u05d0"),
    ],
)
def test_control_characters_are_not_printed(text, shown):
    """A text keeps tabs, newlines and every visible character; other control characters are replaced."""
    assert printing.printable(text) == shown


def test_search_does_not_print_control_characters(index):
    """A found text cannot command the terminal either."""
    assert "\x1b" not in CliRunner().invoke(main, ["search", str(index), "parse"]).stdout


def test_a_threshold_is_rounded_down():
    """The printed threshold does not refuse the query whose similarity it is."""
    only = Threshold(min_score=0.6637, lost=0.0, refused=1.0)
    table = printing.threshold_table(Thresholds(1, 1, 1.0, (only,), only))
    assert table.endswith("--min-score 0.663")


def test_one_document_is_not_plural():
    """A count of one has its noun in the singular, and long counts have commas."""
    assert [printing.counted(n, "document") for n in (0, 1, 1000)] == ["0 documents", "1 document", "1,000 documents"]
    planned = CliRunner().invoke(main, ["plan", "1", "--tokens", "20", "--dim", "8"]).stdout
    assert planned.startswith("1 document of 20.0 tokens")
