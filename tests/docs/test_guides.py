"""The guides are true: files are written, commands and Python run in order, and what they print is on the page."""

import contextlib
import importlib.util
import io
import json
import logging
import re
import shlex
import shutil
import sys
import tomllib
from pathlib import Path
from types import SimpleNamespace

import click
import numpy as np
import pytest
from click.testing import CliRunner
from servers import running

from refcolbert import definition
from refcolbert.cli import main

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"
TINY = Path(__file__).parents[1] / "models" / "tiny"
ELSEWHERE = {"adapters.md", "cli.md", "evaluation.md", "inputs.md", "service.md"}  # tested by files of their own
GUIDES = sorted(page.name for page in DOCS.glob("*.md") if page.name not in ELSEWHERE)
FENCE = re.compile(r"^```(\{code-block\} )?(\w+)\n(?::caption: (\S+)\n)?(.*?)^```$", re.DOTALL | re.MULTILINE)
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]

OTHERS = PROJECT["entry-points"]["refcolbert.commands"]  # verbs of the torch side, which tests of its own run


class Reader:
    """Somebody who does what a page says, in one folder and one Python session, and remembers what was printed."""

    def __init__(self, page) -> None:
        self.page, self.session, self.printed, self.served = page, {}, None, None

    def take(self, language, name, text):
        """Write a file, run commands or Python, or compare what was printed last."""
        if name is not None:
            Path(name).parent.mkdir(parents=True, exist_ok=True)
            Path(name).write_text(text)
        elif language == "python":
            with contextlib.redirect_stdout(io.StringIO()) as out:
                exec(compile(text, self.page, "exec"), self.session)  # noqa: S102 - our own page
            self.printed = out.getvalue()
        elif language == "console":
            for line in text.splitlines():
                assert line.startswith("$ "), f"{self.page}: {line}"
                self.do(line[2:])
        else:
            assert language == "text", f"{self.page}: nothing here runs {language}"
            assert self.printed == text, f"{self.page} says\n{text}\nand it printed\n{self.printed}"

    def do(self, line):
        """One command."""
        words = shlex.split(line, comments=True)
        if words[:2] == ["pip", "install"]:
            extras = set(re.findall(r"[\w-]+", words[2].removeprefix("refcolbert")))
            assert extras <= set(PROJECT["optional-dependencies"]), line
        elif words[:2] == ["python", "-m"]:
            assert importlib.util.find_spec(words[2]), line
        elif words[0] == "make":
            assert re.search(rf"^{words[1]}:", (ROOT / "Makefile").read_text(), re.MULTILINE), line
        elif words[0] == "curl":
            target = words[1].removeprefix("http://127.0.0.1:8000")
            with running(self.served) as client:
                reply = client.ask("GET", target)
            assert (reply.status, bool(reply.json["hits"])) == (200, True), line
        elif words[:2] == ["refcolbert", "serve"]:
            given = options("serve", words[2:])
            self.served = self.served if given["shards"] else given["index"][0]
        elif words[0] == "refcolbert" and words[1] in OTHERS:
            known = {name for option in main.get_command(click.Context(main), words[1]).params for name in option.opts}
            assert {word for word in words if word.startswith("-")} <= known, line
            if words[1] == "export":
                shutil.copytree(TINY, words[3])
        else:
            assert words[0] == "refcolbert", f"{self.page}: no rule to test {line}"
            # Worker processes have the real default model.
            model = ["--model", str(TINY)] if "--workers" in words else []
            done = CliRunner().invoke(main, [*words[1:], *model])
            assert (done.exit_code, bool(done.stdout)) == (0, True), f"{line}\n{done.output}"


def options(verb, words):
    """What a verb understands of these words, without doing it."""
    command = main.get_command(click.Context(main), verb)
    return command.make_context(verb, list(words)).params


@pytest.fixture
def desk(tmp_path, monkeypatch):
    """An empty folder, the tiny model as both of the package; logging is put back."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    for name in ("default_model_folder", "small_model_folder"):
        monkeypatch.setattr(f"refcolbert.encoding.encoder.{name}", lambda: TINY)
    log = logging.getLogger("refcolbert")
    level = log.level
    yield tmp_path
    log.setLevel(level)


@pytest.mark.parametrize("page", GUIDES)
def test_everything_on_a_page_runs(desk, page):
    """In the order of the page, every block does what the page says."""
    text = (DOCS / page).read_text()
    reader = Reader(page)
    for _, language, name, block in FENCE.findall(text):
        reader.take(language, name or None, block)
    assert len(FENCE.findall(text)) == len(re.findall(r"^```(?:\{code-block\} )?\w+$", text, re.MULTILINE))


def test_a_page_that_says_something_else_is_noticed(desk):
    """What a block prints must be what the page shows below it."""
    reader = Reader("page")
    reader.take("python", None, "print(1)")
    with pytest.raises(AssertionError, match="it printed"):
        reader.take("text", None, "2\n")


def table(text, head):
    """The rows below a table's head, cell by cell."""
    lines = text.partition(head)[2].splitlines()[2:]
    rows = [line for line in lines[: lines.index("")] if line.startswith("|")]
    return [[cell.strip() for cell in row.strip("|").split("|")] for row in rows]


def test_the_maxsim_that_is_traced_by_hand_is_right():
    """Each number of the trace follows from the vectors of the table above it, and their sum is the definition's."""
    text = (DOCS / "how-it-works.md").read_text()
    vectors = {name: [float(x), float(y)] for name, x, y in table(text, "| | x | y |")}
    q = {name: vector for name, vector in vectors.items() if name.startswith("q")}
    d = {name: vector for name, vector in vectors.items() if name.startswith("d")}
    assert [definition.norm(vector) for vector in vectors.values()] == pytest.approx([1] * 5, abs=1e-12)
    *rows, total = table(text, "| q · d | d_1 | d_2 | d_3 | largest | at |")
    assert [row[0] for row in rows] == list(q)
    for name, *cells, largest, at in rows:
        products = [definition.dot(q[name], vector) for vector in d.values()]
        assert [float(cell) for cell in cells] == pytest.approx(products, abs=1e-12)
        assert float(largest) == pytest.approx(max(products), abs=1e-12)
        assert at == list(d)[products.index(max(products))]
    score = definition.maxsim(list(q.values()), list(d.values()))
    assert float(total[4]) == pytest.approx(score, abs=1e-12)


def test_the_adapter_of_the_conformance_suite_offers_what_it_says(monkeypatch):
    """The example of an adapter gives the engine's scores, with and without a mask."""

    def score(q, d, mask=None):
        return definition.maxsim_masked(q, d, [True] * len(d) if mask is None else mask)

    monkeypatch.setitem(sys.modules, "your_engine", SimpleNamespace(score=score))
    text = (ROOT / "tests" / "conformance" / "README.md").read_text()
    ((_, _, _, block),) = [found for found in FENCE.findall(text) if found[1] == "python"]
    adapter = {}
    exec(compile(block, "your_adapter.py", "exec"), adapter)  # noqa: S102 - our own page
    q, d = np.eye(2, dtype=np.float32), np.array([[0.6, 0.8], [1, 0]], np.float32)
    assert adapter["maxsim"](q, d) == pytest.approx(1.8)
    assert adapter["maxsim_masked"](q, d, [True, False]) == pytest.approx(1.4)


def test_the_image_is_made_of_what_is_there():
    """The Dockerfile copies files that exist, installs an extra that exists, and starts a service with real options."""
    text = (DOCS / "Dockerfile").read_text()
    stages = text.split("\nFROM ")[1:]
    for line in re.findall(r"^COPY (?!--from)(.*)$", text, re.MULTILINE):
        *sources, _ = line.split()
        assert not [source for source in sources if not (ROOT / source).exists()], line
    (extras,) = re.findall(r"'\.\[(.*)\]'", text)
    assert set(extras.split(",")) <= set(PROJECT["optional-dependencies"])
    assert re.search(r"^USER (?!root)\w+$", stages[-1], re.MULTILINE)
    (entry,), (command,) = (re.findall(rf"^{word} (\[.*\])$", text, re.MULTILINE) for word in ("ENTRYPOINT", "CMD"))
    program, (verb, *words) = json.loads(entry), json.loads(command)
    assert program == ["refcolbert"] == list(PROJECT["scripts"])
    token = words.index("--token-file") + 1
    assert options(verb, [*words[:token], str(DOCS / "Dockerfile")])["host"] == "0.0.0.0"  # noqa: S104 - in its own net
