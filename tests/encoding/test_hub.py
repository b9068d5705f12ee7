"""Models by hub id: `Encoder.load` against a local server that speaks the hub's protocol."""

import shutil

import pytest
from hub_server import serving

from refcolbert.encoding.hub import is_hub_id

LOAD = """
import sys
from refcolbert import Encoder
from refcolbert.errors import ModelNotFound
try:
    print(Encoder.load(sys.argv[1]).hash)
except ModelNotFound as error:
    print(error)
"""


@pytest.fixture
def hub(encoder, tmp_path):
    """A hub with an exported model beside a checkpoint's weights, and one with a checkpoint alone."""
    model = shutil.copytree(encoder.folder, tmp_path / "model")
    (model / "model.safetensors").write_bytes(b"large")
    checkpoint = shutil.copytree(model, tmp_path / "checkpoint")
    (checkpoint / "model.onnx").unlink()
    (checkpoint / "encoding.json").unlink()
    with serving({"owner/model": model, "owner/checkpoint": checkpoint}) as hub:
        yield hub


def test_a_model_is_downloaded_once(hub, encoder, tmp_path):
    """The files of the model are fetched and nothing else; a second load without the server finds them."""
    assert hub.run(tmp_path / "cache", "-c", LOAD, "owner/model").stdout.strip() == encoder.hash
    assert sorted(hub.sent) == ["encoding.json", "model.onnx", "tokenizer.json"]
    hub.url = "http://127.0.0.1:9"
    assert hub.run(tmp_path / "cache", "-c", LOAD, "owner/model").stdout.strip() == encoder.hash


def test_a_repository_without_a_model_names_the_command_that_makes_one(hub, tmp_path):
    """The error has the command with the repository's id when it holds no exported model."""
    told = hub.run(tmp_path / "cache", "-c", LOAD, "owner/checkpoint").stdout
    assert "refcolbert export owner/checkpoint OUT" in told


@pytest.mark.parametrize(
    ("name", "offline", "expected"),
    [
        ("owner/none", False, "found: 404"),
        ("owner/model", True, "connect to the network"),
    ],
)
def test_a_failed_download_is_one_line(hub, tmp_path, name, offline, expected):
    """The message has one line, and says what to do where the hub cannot be reached."""
    hub.url = "http://127.0.0.1:9" if offline else hub.url
    told = hub.run(tmp_path / "cache", "-c", LOAD, name).stdout.strip()
    assert expected in told
    assert "\n" not in told


@pytest.mark.parametrize("name", ["a", "./a", "/a/b", "a/b/c", "a/", "~/a", "../a", "a\\b", ""])
def test_paths_are_no_hub_ids(name):
    """Only owner/name goes to the network."""
    assert not is_hub_id(name)
    assert is_hub_id("owner/name-1.0")
