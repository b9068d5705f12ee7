"""The tool that measures the image follows the Dockerfile, and what the image leaves out no service needs."""

import ast
import fnmatch
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tools import rootfs

MODEL = Path(__file__).parent / "models" / "tiny"
IMAGE = rootfs.read(rootfs.DOCKERFILE.read_text())
SHORT = """# a comment
FROM debian:bookworm-slim AS build
RUN one \\
# within
 && two
WORKDIR /src
FROM debian:bookworm-slim
ENV PATH=/opt/bin:$PATH A='b c'
"""
SERVED = """
import sys
sys.path[:0] = [{tests!r}]
from refcolbert import Encoder
from servers import make_index, running
with running(make_index({index!r}, Encoder.load({model!r}))) as client:
    for path in ("/ready", "/search?q=date", "/metrics", "/openapi.json", "/"):
        assert client.ask("GET", path).status == 200, path
files = {{module.__file__ for module in list(sys.modules.values()) if getattr(module, "__file__", None)}}
if sys.platform == "linux":
    with open("/proc/self/maps") as maps:
        files |= {{line.split()[-1] for line in maps if "/" in line}}
print(sorted(files))
"""


def test_the_dockerfile_is_understood_whole():
    """Every instruction of docs/Dockerfile has a rule, and the last stage runs a service as a user, with a probe."""
    build, image = IMAGE
    assert [build.name, image.name] == ["build", "1"]
    assert image.command[:2] == ["refcolbert", "serve"]
    assert image.environment["PATH"].startswith("/opt/refcolbert/bin:/")
    assert (image.user, image.folder, bool(image.probe)) == ("refcolbert", "/data", True)
    assert ("COPY", "--from=build /opt/refcolbert /opt/refcolbert") in image.steps


def test_lines_are_joined_and_comments_dropped():
    """A continued line is one instruction, even with a comment within; ENV takes quotes and $PATH."""
    build, image = rootfs.read(SHORT)
    assert [(word, rest.split()) for word, rest in build.steps] == [
        ("RUN", ["one", "&&", "two"]),
        ("WORKDIR", ["/src"]),
    ]
    assert image.environment == {"PATH": "/opt/bin:" + rootfs.FIRST["PATH"], "A": "b c"}


@pytest.mark.parametrize("line", ["ADD a b", "VOLUME /data", "run one", "SHELL []", "USER a\nRUN b", "ENV A=b\nRUN c"])
def test_an_instruction_without_a_rule_is_refused(line):
    """What the tool cannot follow is an error, not a step that is left out."""
    with pytest.raises(ValueError, match="no rule"):
        rootfs.read(f"FROM debian:bookworm-slim\n{line}\n")


def test_another_base_is_refused(tmp_path):
    """An image that mmdebstrap does not make is an error."""
    with pytest.raises(ValueError, match="alpine"):
        rootfs.base_system("alpine:3", tmp_path / "base")


def test_copies_go_where_the_dockerfile_says(tmp_path):
    """A folder's content goes into the folder named, files into theirs, and --from takes another stage's files."""
    build, root = tmp_path / "build", tmp_path / "root"
    (build / "opt" / "made").mkdir(parents=True)
    (build / "opt" / "made" / "file").write_text("x")
    (build / "opt" / "made" / "link").symlink_to("file")
    rootfs.copy("--from=build /opt/made /opt/here", root, "/", {"build": build})
    rootfs.copy("pyproject.toml LICENSE ./", root, "/src", {})
    rootfs.copy("docs/static static", root, "/src", {})
    assert (root / "opt" / "here" / "link").is_symlink()
    assert (root / "opt" / "here" / "link").read_text() == "x"
    assert (root / "src" / "LICENSE").read_bytes() == (rootfs.ROOT / "LICENSE").read_bytes()
    assert (root / "src" / "static" / "site.css").is_file()


def test_a_file_with_two_names_counts_once(tmp_path):
    """Hard links are one file, symbolic links none."""
    (tmp_path / "a").write_bytes(bytes(1000))
    os.link(tmp_path / "a", tmp_path / "b")
    (tmp_path / "c").symlink_to("a")
    (tmp_path / "d").write_bytes(bytes(500))
    assert rootfs.megabytes(tmp_path) == 0.0015


def test_a_sealed_file_system_is_mounted_read_only(tmp_path):
    """Every mount that a sealed service sees but /proc is remounted read-only before it starts."""
    data = tmp_path / "data"
    data.mkdir()
    *_, script = rootfs.inside(tmp_path, ["it's"], {"A": "b c"}, user="one", mounts={"/data": str(data)}, sealed=True)
    *mounts, last = script.splitlines()
    sealed = {line.split()[-1] for line in mounts if "remount,bind,ro" in line}
    assert sealed == {str(tmp_path), str(data)}
    assert last.startswith(f"exec chroot --userspec=one {tmp_path} env -i -C /")
    assert last.endswith("""'A=b c' 'it'"'"'s'""")


def test_the_image_leaves_out_nothing_that_a_service_loads(tmp_path):
    """No module and no library of a service that has answered lies where the Dockerfile removes files."""
    (removed,) = re.findall(r"site-packages/(\w+)\s+&& rm -rf (.*)", dict(IMAGE[0].steps[-1:])["RUN"])
    patterns = [f"*/site-packages/{removed[0]}/{name}" for name in removed[1].split()]
    program = SERVED.format(tests=str(MODEL.parent.parent), index=str(tmp_path / "i"), model=str(MODEL))
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True, timeout=120)
    loaded = ast.literal_eval(done.stdout.splitlines()[-1])
    assert any("/onnxruntime/capi/" in name for name in loaded)
    for pattern in [*patterns, *(f"{pattern}/*" for pattern in patterns), "*/site-packages/*/tests/*"]:
        assert not fnmatch.filter(loaded, pattern), pattern
