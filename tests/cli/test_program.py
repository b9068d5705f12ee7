"""How the program behaves as a process: exit codes, interruptions, pipes, progress, completion."""

import fcntl
import json
import os
import pty
import re
import shutil
import signal
import struct
import subprocess
import sys
import termios
import time
from pathlib import Path

import pytest

from refcolbert import Index
from refcolbert.cli import main

PROGRAM = Path(sys.executable).with_name("refcolbert")
LINES = "".join(f"{i}\tparse the date of line {i}\n" for i in range(3000))  # more than one batch of `build`

pytestmark = pytest.mark.skipif(not PROGRAM.exists(), reason="the package is not installed as a program here")


def start(*args, **options):
    """The program as a process of its own, in which Ctrl-C works also when these tests run in the background."""
    heard = {"preexec_fn": lambda: signal.signal(signal.SIGINT, signal.SIG_DFL)}
    pipes = {name: subprocess.PIPE for name in ("stdin", "stdout", "stderr") if name not in options}
    return subprocess.Popen([PROGRAM, *map(str, args)], text=True, **pipes, **heard, **options)


def complete(shell, words):
    """The program's answer to a shell that completes the last of `words`."""
    asked = {"COMP_WORDS": " ".join(words), "COMP_CWORD": str(len(words) - 1)}
    if shell == "fish":
        asked["COMP_CWORD"] = words[-1]
    env = {**os.environ, **asked, "_REFCOLBERT_COMPLETE": f"{shell}_complete"}
    return subprocess.run([PROGRAM], env=env, capture_output=True, text=True, check=True, timeout=120).stdout


@pytest.mark.parametrize(
    ("args", "code"),
    [
        (["--version"], 0),
        (["check", "none"], 1),
        (["info", "none"], 1),
        (["vectors", "INDEX", "no/such/folder/out.npz"], 1),
        (["eval", "--run", "RUN", "--qrels", "RUN", "--save", "no/such/folder/run"], 1),
        (["nonsense"], 2),
        (["search", "index"], 2),
    ],
    ids=lambda value: value[0] if isinstance(value, list) else None,
)
def test_the_exit_code_says_how_it_ended(index, run, tmp_path, args, code):
    """0 done, 1 an error with its message, 2 wrong usage; never a traceback."""
    (tmp_path / "run.trec").write_text("q Q0 date 1 1.0 x\n")
    run(*({"INDEX": index, "RUN": tmp_path / "run.trec"}.get(arg, arg) for arg in args), exit_code=code)


def test_a_closed_pipe_ends_quietly(index):
    """A reader that closes the pipe ends the program with exit code 141 and nothing on stderr."""
    process = start("search", index, "a date", stdin=subprocess.DEVNULL)
    process.stdout.close()
    assert process.stderr.read() == ""
    assert process.wait(timeout=120) == 141


def test_an_interrupted_build_goes_on_where_it_stopped(tmp_path, encoder):
    """Ctrl-C is exit code 130 and one line; the same command again makes the index that one run would have made."""
    process = start("index", "new", "-", "--format", "tsv", "--model", encoder.folder, stdout=subprocess.DEVNULL)
    process.stdin.write(LINES)
    process.stdin.flush()
    manifest = tmp_path / "new.building" / "manifest.json"
    until = time.monotonic() + 120
    while not (manifest.exists() and '"next_position":2048' in manifest.read_text().replace(" ", "")):
        assert process.poll() is None
        assert time.monotonic() < until
        time.sleep(0.02)
    process.send_signal(signal.SIGINT)
    assert process.stderr.read() == "Interrupted. The same command continues from here.\n"
    assert process.wait(timeout=120) == 130
    assert not (tmp_path / "new").exists()
    for name in ("new", "whole"):
        again = start("index", name, "-", "--format", "tsv", "--model", encoder.folder)
        again.communicate(LINES, timeout=300)
        assert again.returncode == 0
    resumed, whole = (Index.open(tmp_path / name) for name in ("new", "whole"))
    assert resumed.ids() == whole.ids()
    q = encoder.encode_queries(["line 2999"])[0]
    assert [(h.id, h.score) for h in resumed.search(q)] == [(h.id, h.score) for h in whole.search(q)]


def test_an_interrupted_add_changes_nothing(tmp_path, index):
    """Ctrl-C while documents come leaves the generation that was there."""
    before = (index / "manifest.json").read_bytes()
    process = start("add", index, "-", "--format", "tsv", stdout=subprocess.DEVNULL)
    process.stdin.write(LINES)
    process.stdin.flush()
    fd = Path(f"/proc/{process.pid}/wchan")
    until = time.monotonic() + 120
    while fd.exists() and "pipe" not in fd.read_text() and time.monotonic() < until:  # until it waits for more
        time.sleep(0.02)
    process.send_signal(signal.SIGINT)
    assert process.stderr.read() == "Interrupted.\n"
    assert process.wait(timeout=120) == 130
    assert (index / "manifest.json").read_bytes() == before


def test_a_terminal_sees_progress_with_rate_and_time_left(tmp_path, beir, encoder):
    """On a terminal stderr shows that documents are read, a bar that ends full, and that the index is written."""
    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 100, 0, 0))
    process = start("index", "new", beir, "--model", encoder.folder, stderr=theirs)
    os.close(theirs)
    shown = b""
    while True:
        try:
            shown += os.read(ours, 4096)
        except OSError:  # the other end is closed
            break
    os.close(ours)
    assert process.wait(timeout=120) == 0
    assert "read: 0doc" in shown.decode()
    assert "compressing and writing]" in shown.decode()
    assert re.search(r"index: 100%.* 3/3 \[\d\d:\d\d<00:00, +[\d.]+ ?(doc/s|s/doc)\]", shown.decode())
    assert "new: 3 documents" in process.stdout.read()


# ---- shell completion


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_verbs_and_options_are_completed(shell):
    """Each shell completes the beginning of a verb, of an option and of a value."""
    found = set(re.findall(r"^plain[,\n](\w+)", complete(shell, ["refcolbert", "s"]), re.MULTILINE))
    assert found == {"search", "serve", "snapshot", "sync"}
    assert "--passages" in complete(shell, ["refcolbert", "add", "--pa"])
    assert "markdown" in complete(shell, ["refcolbert", "add", "--format", "m"])


def sourced(shell, *script):
    """The output of a shell that has loaded the completion as the documents say, and then runs a script."""
    if shutil.which(shell) is None:
        assert not os.environ.get("CI"), f"{shell} is not installed"
        pytest.skip(f"{shell} is not installed")
    load = {
        "bash": 'eval "$(_REFCOLBERT_COMPLETE=bash_source refcolbert)"',
        "zsh": 'autoload -Uz compinit; compinit -D; eval "$(_REFCOLBERT_COMPLETE=zsh_source refcolbert)"',
        "fish": "_REFCOLBERT_COMPLETE=fish_source refcolbert | source",
    }
    bare = {"bash": ["--norc"], "zsh": ["-f"], "fish": ["--no-config"]}
    env = {**os.environ, "PATH": f"{PROGRAM.parent}:{os.environ['PATH']}"}
    command = [shell, *bare[shell], "-c", "\n".join([load[shell], *script])]
    done = subprocess.run(command, env=env, capture_output=True, text=True, timeout=300)
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout


def test_bash_completes():
    """The function that bash has for the program finds verbs."""
    found = sourced(
        "bash",
        "COMP_WORDS=(refcolbert sea); COMP_CWORD=1",
        "_refcolbert_completion refcolbert sea refcolbert",
        'printf "%s\\n" "${COMPREPLY[@]}"',
    )
    assert found.split() == ["search"]


def test_fish_completes():
    """fish itself lists verbs with their help."""
    assert sourced("fish", "complete -C 'refcolbert sea'").startswith("search\tThe K best")


def test_zsh_completes():
    """zsh has the function for the program, and the function finds the program."""
    found = sourced("zsh", "print -r -- $_comps[refcolbert]", "(( $+commands[refcolbert] )) && print found")
    assert found == "_refcolbert_completion\nfound\n"


# ---- JSON

SHAPE = re.compile(r"Print JSON: one object(?: per line)?: (.*?)[.;]")
CALLS = {
    "add": ["INDEX", "TEXT", "--upsert"],
    "check": ["INDEX"],
    "compact": ["INDEX"],
    "delete": ["INDEX", "date"],
    "demo": ["INDEX", "--model", "MODEL"],
    "eval": ["INDEX", "--queries", "BEIR", "--qrels", "BEIR"],
    "explain": ["INDEX", "a date"],
    "import": ["PLAID", "new"],
    "index": ["new", "BEIR", "--model", "MODEL"],
    "info": ["INDEX"],
    "plan": ["1000", "--tokens", "20", "--model", "MODEL"],
    "reencode": ["INDEX", "MODEL"],
    "rerank": ["a date", "one", "--model", "MODEL"],
    "search": ["INDEX", "a date"],
    "snapshot": ["INDEX", "copy"],
    "sync": ["synced", "BEIR", "--model", "MODEL"],
    "tune": ["INDEX", "--sample", "2"],
    "vectors": ["INDEX", "out.npz"],
}


def said(run, verb):
    """The names that a verb's JSON has according to its help."""
    text = " ".join(run(verb, "--help").stdout.split())
    if "Print JSON: the object that `info --json` prints" in text:
        return said(run, "info")
    found = SHAPE.search(text)
    return found[1].split(", ") if found else None


@pytest.mark.parametrize("verb", CALLS)
def test_json_has_the_names_that_the_help_says(verb, index, beir, run, tmp_path):
    """Every line that --json prints is an object of exactly these names, in this order."""
    (tmp_path / "t.txt").write_text("parse a date")
    if verb == "import":
        pytest.importorskip("torch")
    plaid = Path(__file__).parents[2] / "golden" / "plaid" / "2bits"
    places = {"INDEX": index, "BEIR": beir, "TEXT": tmp_path / "t.txt", "PLAID": plaid}
    lines = run(verb, *(places.get(arg, arg) for arg in CALLS[verb]), "--json").stdout.splitlines()
    names = said(run, verb)
    assert lines
    assert names or verb == "plan"
    assert all(list(json.loads(line)) == (names or list(json.loads(line))) for line in lines)


def test_every_verb_prints_json(run):
    """No verb of the core but those that serve is without --json, and none is missing above."""
    assert set(main.commands) - {"serve", "mcp"} == set(CALLS)
    for verb in CALLS:
        assert "--json" in run(verb, "--help").stdout
