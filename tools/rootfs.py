"""Do what docs/Dockerfile says without a container engine, and print what the image takes and how soon it answers.

python -m tools.rootfs [--keep FOLDER]

Needs root, mmdebstrap and iproute2. mmdebstrap makes the base system, with the exceptions of a slim image (no manuals,
no documentation but copyrights, no translations); the instructions are then followed in a chroot with processes and
mounts of its own. The service is run by the Dockerfile's command as the Dockerfile's user, with no network but loopback
and nothing that it could write to. What this tool cannot follow it refuses: the image is the one that is measured.
"""

import argparse
import ctypes
import json
import os
import re
import shlex
import shutil
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.client import HTTPConnection
from pathlib import Path

from .release.install_size import ROOT, TINY, megabytes, packaged

DOCKERFILE = ROOT / "docs" / "Dockerfile"
AIM, TRIES, SHOWN = 350, 5, 8
TOKEN = "a-token-that-only-this-process-knows"  # noqa: S105 - of a service that only this process reaches
PORT, PATIENCE = 8000, 60  # seconds
FIRST = {"PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"}
NEW_NETWORK = 0x40000000  # CLONE_NEWNET; os.unshare came with Python 3.12
SLIM = [
    "--dpkgopt=path-exclude=/usr/share/man/*",
    "--dpkgopt=path-exclude=/usr/share/locale/*",
    "--dpkgopt=path-exclude=/usr/share/doc/*",
    "--dpkgopt=path-include=/usr/share/doc/*/copyright",
    '--aptopt=Dir::Cache::pkgcache ""',
    '--aptopt=Dir::Cache::srcpkgcache ""',
]


@dataclass
class Stage:
    """One FROM of a Dockerfile: the system it begins with, what is done to it, and how its result is run."""

    base: str
    name: str
    steps: list[tuple[str, str]] = field(default_factory=list)
    environment: dict[str, str] = field(default_factory=lambda: dict(FIRST))
    folder: str = "/"
    user: str = "root"
    command: list[str] = field(default_factory=list)
    probe: list[str] = field(default_factory=list)


def read(text: str) -> list[Stage]:
    """The stages of a Dockerfile, in order; what is not understood is an error."""
    joined = re.sub(r"\\\n", " ", re.sub(r"^\s*#.*\n", "", text, flags=re.MULTILINE))
    stages: list[Stage] = []
    for line in filter(None, map(str.strip, joined.splitlines())):
        word, _, rest = line.partition(" ")
        if word == "FROM":
            base, _, name = rest.partition(" AS ")
            stages.append(Stage(base, name or str(len(stages))))
        else:
            take(stages[-1], word, rest.strip())
    return stages


def take(stage: Stage, word: str, rest: str) -> None:
    """One instruction of a stage: something to do, or how to run what was made."""
    if word == "RUN" and (stage.user, stage.environment) != ("root", FIRST):
        raise ValueError(f"{word} {rest}: no rule for what is run after USER or ENV")
    if word in {"RUN", "COPY", "WORKDIR"}:
        stage.steps.append((word, rest))
        stage.folder = rest if word == "WORKDIR" else stage.folder
    elif word == "ENV":
        known = stage.environment
        pairs = (pair.split("=", 1) for pair in shlex.split(rest))
        known.update({name: value.replace("$PATH", known["PATH"]) for name, value in pairs})
    elif word == "USER":
        stage.user = rest
    elif word in {"ENTRYPOINT", "CMD"}:
        stage.command += json.loads(rest)
    elif word == "HEALTHCHECK":
        stage.probe = json.loads(rest.partition(" CMD ")[2])
    elif word != "EXPOSE":
        raise ValueError(f"{word} {rest}: no rule to follow this instruction")


def base_system(image: str, folder: Path) -> None:
    """The Debian system that an image like debian:bookworm-slim holds."""
    found = re.fullmatch(r"debian:(\w+)-slim", image)
    if found is None:
        raise ValueError(f"{image}: this tool makes debian:SUITE-slim alone")
    command = ["mmdebstrap", "--quiet", "--mode=root", "--variant=minbase", "--include=usr-is-merged"]
    hook = "--hook-dir=/usr/share/mmdebstrap/hooks/maybe-merged-usr"
    subprocess.run([*command, hook, *SLIM, found[1], folder], check=True)


def make(stage: Stage, root: Path, made: dict[str, Path]) -> None:
    """Follow the steps of a stage in its file system."""
    folder = "/"
    for word, rest in stage.steps:
        if word == "WORKDIR":
            folder = rest
            below(root, folder).mkdir(parents=True, exist_ok=True)
        elif word == "COPY":
            copy(rest, root, folder, made)
        else:
            settings, mounts = pip_settings()
            environment = {"HOME": "/root", "DEBIAN_FRONTEND": "noninteractive", **FIRST, **settings}
            resolver = shutil.copy("/etc/resolv.conf", root / "etc")
            command = inside(root, ["sh", "-c", rest], environment, folder=folder, mounts=mounts)
            subprocess.run(command, check=True, stdout=sys.stderr)
            Path(resolver).unlink()


def below(root: Path, path: str) -> Path:
    """Where an absolute path of a file system lies in this one."""
    return root / path.lstrip("/")


def copy(words: str, root: Path, folder: str, made: dict[str, Path]) -> None:
    """COPY: a folder's content into a folder, files into a folder that ends with a slash."""
    found = re.fullmatch(r"(?:--from=(\w+) )?(.+) (\S+)", words)
    assert found is not None, words  # noqa: S101 - read() made it
    stage, sources, target = found.groups()
    into = below(root, os.path.join(folder, target))  # noqa: PTH118 - joins two texts, of which one may be absolute
    for name in sources.split():
        source = below(made[stage], name) if stage else ROOT / name
        if source.is_dir():
            shutil.copytree(source, into, symlinks=True, dirs_exist_ok=True)
        else:
            into.mkdir(parents=True, exist_ok=True)
            shutil.copy2(source, into)


def pip_settings() -> tuple[dict[str, str], dict[str, str]]:
    """What the environment tells pip on this machine; files that it names are lent to the file system."""
    settings, mounts = {}, {}
    for name, value in os.environ.items():
        if name.startswith("PIP_"):
            settings[name] = value
            if Path(value).exists():
                settings[name] = f"/mnt/{name}"
                mounts[settings[name]] = value
    return settings, mounts


def inside(
    root: Path,
    command: list[str],
    environment: dict[str, str],
    *,
    folder: str = "/",
    user: str = "root",
    mounts: dict[str, str] | None = None,
    sealed: bool = False,
) -> list[str]:
    """A command that runs another one in a file system, as process 1; sealed, nothing there can be written."""
    script = [["mount", "--bind", root, root]]
    for place, source in (mounts or {}).items():
        at = below(root, place)
        if Path(source).is_dir():
            at.mkdir(parents=True, exist_ok=True)
        else:
            at.touch()
        script += [["mount", "--bind", source, at]]
        script += [["mount", "-o", "remount,bind,ro", at]] if sealed else []
    script += [["mount", "-o", "remount,bind,ro", root]] if sealed else []
    script += [["mount", "-t", "proc", "proc", root / "proc"]]
    values = [f"{name}={value}" for name, value in environment.items()]
    script += [["exec", "chroot", f"--userspec={user}", root, "env", "-i", "-C", folder, *values, *command]]
    lines = "\n".join(shlex.join(map(str, line)) for line in script)
    return ["unshare", "--mount", "--pid", "--fork", "--kill-child", "sh", "-ec", lines]


def alone() -> None:
    """From here on this process and its children see no network but a loopback of their own."""
    if ctypes.CDLL(None, use_errno=True).unshare(NEW_NETWORK):
        raise OSError(ctypes.get_errno(), "no network of its own; is this root?")
    subprocess.run(["ip", "link", "set", "lo", "up"], check=True)


@contextmanager
def started(stage: Stage, root: Path, mounts: dict[str, str]) -> Iterator[tuple[float, int]]:
    """The service while it runs: seconds from start to first answer, and its process. SIGTERM must end it with 0."""
    start = time.perf_counter()
    command = inside(
        root, stage.command, stage.environment, folder=stage.folder, user=stage.user, mounts=mounts, sealed=True
    )
    with subprocess.Popen(command) as running:
        try:
            while not answered():
                if running.poll() is not None or time.perf_counter() - start > PATIENCE:
                    raise RuntimeError(f"no answer from {shlex.join(stage.command)}")
                time.sleep(0.01)
            seconds = time.perf_counter() - start
            (process,) = Path(f"/proc/{running.pid}/task/{running.pid}/children").read_text().split()
            yield seconds, int(process)
            os.kill(int(process), signal.SIGTERM)
            if running.wait(PATIENCE) != 0:
                raise RuntimeError(f"after SIGTERM it ended with {running.returncode}")
        finally:
            running.kill()


def answered() -> bool:
    """Whether the service has answered a query; any answer but the right one is an error."""
    client = HTTPConnection("127.0.0.1", PORT, timeout=PATIENCE)
    try:
        head = {"Authorization": f"Bearer {TOKEN}"}
        client.request("GET", "/search?q=how+do+I+parse+a+date&k=3", headers=head)
        reply = client.getresponse()
        hits = json.loads(reply.read()).get("hits", [])
    except ConnectionRefusedError:
        return False
    finally:
        client.close()
    if (reply.status, len(hits)) != (200, 3):
        raise RuntimeError(f"status {reply.status}, {len(hits)} hits")
    return True


def index(stage: Stage, root: Path, data: Path) -> None:
    """An index of the documentation, made in the file system by the packaged model, or else by the tests' one."""
    data.mkdir(parents=True, exist_ok=True)
    shutil.copytree(ROOT / "docs", data / "docs", dirs_exist_ok=True)
    model: list[str] = []
    if packaged(libraries(root)) is None:
        shutil.copytree(TINY, data / "model", dirs_exist_ok=True)
        model = ["--model", "model"]
    command = [*stage.command[:1], "index", "notes.index", "docs", "--passages", "tokens", *model]
    environment = {**stage.environment, "PYTHONDONTWRITEBYTECODE": "1"}
    made = inside(root, command, environment, folder=stage.folder, mounts={stage.folder: str(data)})
    subprocess.run(made, check=True, stdout=sys.stderr)


def libraries(root: Path) -> Path:
    """The folder of the installed packages."""
    (folder,) = root.glob("opt/*/lib/python3*/site-packages")
    return folder


def table(root: Path, base: float) -> Iterator[str]:
    """What takes how much: the base system, Python, the packages, the model, all."""
    folder = libraries(root)
    model = packaged(folder)
    whole, environment = megabytes(root), megabytes(root / "opt")
    weights = megabytes(model) if model else 0.0
    yield f"{base:7.1f} MB  base system"
    yield f"{whole - base - environment:7.1f} MB  Debian's Python and what it needs"
    yield f"{environment - weights:7.1f} MB  packages:"
    packages = {path.name: megabytes(path) for path in folder.iterdir() if path.is_dir()}
    packages["refcolbert"] -= weights
    for name in sorted(packages, key=packages.__getitem__, reverse=True)[:SHOWN]:
        yield f"           {packages[name]:7.1f} MB  {name}"
    yield f"{weights:7.1f} MB  default model" + ("" if model else ", which this checkout lacks")
    yield f"{whole:7.1f} MB  together (aim: under {AIM})"


def measure(stage: Stage, root: Path, data: Path) -> None:
    """Start the service several times: the median of seconds to the first answer, the probe, the user, the memory."""
    index(stage, root, data / "index")
    (data / "secrets").mkdir(exist_ok=True)
    (data / "secrets" / "token").write_text(TOKEN)
    mounts = {stage.folder: str(data / "index"), "/run/secrets": str(data / "secrets")}
    seconds, worked, memory = [], [], []
    for _ in range(TRIES):
        with started(stage, root, mounts) as (first, process):
            seconds.append(first)
            ticks = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[11:13]
            worked.append(sum(map(int, ticks)) / os.sysconf("SC_CLK_TCK"))
            subprocess.run(inside(root, stage.probe, stage.environment, user=stage.user), check=True)
            status = dict(line.split(":", 1) for line in Path(f"/proc/{process}/status").read_text().splitlines())
            if status["Uid"].split()[0] == "0":
                raise RuntimeError("the service runs as root")
            memory.append(int(status["VmHWM"].split()[0]) / 1e3)
    shown = ", ".join(f"{value:.2f}" for value in seconds)
    print(f"{statistics.median(seconds):.2f} s from start to first answer, median of {shown};", end=" ")
    print(f"processor time until then {statistics.median(worked):.2f} s")
    print(f"{statistics.median(memory):.0f} MB of memory at most, user {status['Uid'].split()[0]}, health probe passed")


def main() -> None:
    """Make the file system of each stage, measure the last one, run it."""
    parser = argparse.ArgumentParser(description="What docs/Dockerfile's image takes, and how soon it answers.")
    parser.add_argument("--keep", type=Path, help="work in this folder and leave there the base and the result")
    kept = parser.parse_args().keep
    with tempfile.TemporaryDirectory() as temporary:
        folder = (kept or Path(temporary)).resolve()
        folder.mkdir(parents=True, exist_ok=True)
        made: dict[str, Path] = {}
        stages = read(DOCKERFILE.read_text())
        for stage in stages:
            base, root = folder / "base" / stage.base.replace(":", "-"), folder / stage.name
            if not base.exists():
                base.parent.mkdir(exist_ok=True)
                base_system(stage.base, base)
            subprocess.run(["rm", "-rf", "--one-file-system", root], check=True)
            subprocess.run(["cp", "-a", base, root], check=True)
            make(stage, root, made)
            made[stage.name] = root
        for line in table(root, megabytes(base)):
            print(line)
        alone()
        measure(stages[-1], root, Path(temporary) / "data")


if __name__ == "__main__":
    main()
