"""The guide to the service is true: its requests are answered, its tables are those of the code."""

import re
import shlex
from dataclasses import fields
from pathlib import Path

import pytest
from click.testing import CliRunner
from servers import make_index, running

from refcolbert.cli import main
from refcolbert.service import LIMITS, ServiceLimits
from refcolbert.service.endpoints import endpoints
from refcolbert.service.openapi import STATES

GUIDE = (Path(__file__).parents[2] / "docs" / "service.md").read_text()
CURLS = re.findall(r"^\$ curl (.*)$", GUIDE, re.MULTILINE)


@pytest.fixture(scope="module")
def client(encoder, tmp_path_factory):
    """A client of a service of three documents."""
    with running(make_index(tmp_path_factory.mktemp("docs") / "index", encoder)) as found:
        yield found


@pytest.mark.parametrize("line", CURLS)
def test_requests_of_the_guide_are_answered(client, line):
    """Each curl line, sent as curl would, is 200."""
    words = shlex.split(line)
    (target,) = [word.removeprefix("http://127.0.0.1:8000") for word in words if word.startswith("http")]
    given = {flag: words[words.index(flag) + 1] for flag in ("-H", "-d") if flag in words}
    headers = dict([given["-H"].split(": ")]) if "-H" in given else {}
    body = given["-d"].encode() if "-d" in given else None
    assert client.ask("POST" if body else "GET", target, body, headers).status == 200


def test_every_endpoint_has_a_request_and_a_line():
    """The guide's table has each path of the service, and the guide has a request for each endpoint."""
    paths = [path for endpoint in endpoints(ServiceLimits()) for path in endpoint.paths]
    assert not [path for path in [*paths, *STATES, "/metrics"] if f"`{path}`" not in GUIDE]
    assert not [
        e.paths[0] for e in endpoints(ServiceLimits()) if not any(f"8000{e.paths[0]}" in line for line in CURLS)
    ]


def test_the_limits_of_the_guide_are_those_of_the_service():
    """The table has each limit's flag, default and meaning, in order."""
    rows = re.findall(r"^\| `(--[a-z-]+)` \| (\S+) \| (.*) \|$", GUIDE, re.MULTILINE)
    shown = CliRunner().invoke(main, ["serve", "--help"], terminal_width=200).output
    assert [text for _, _, text in rows] == list(LIMITS.values())
    for (flag, default, _), entry in zip(rows, fields(ServiceLimits), strict=True):
        assert flag.endswith(entry.name.replace("_", "-"))
        assert f"{flag} " in shown
        assert default == ("cores" if entry.name == "threads" else f"{entry.default:.0f}")
