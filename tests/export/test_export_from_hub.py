"""`refcolbert export owner/name`: a checkpoint from a local server that speaks the hub's protocol."""

import json
import shutil

import pytest
from hub_server import COMMITS, serving

from refcolbert_export.hub import source_of, weights_and_others

EXPORT = ("-c", "from refcolbert.cli import main; main()", "export")


@pytest.fixture
def hub(checkpoint, tmp_path):
    """A hub with the tiny checkpoint beside what its repository might hold, and a repository of images."""
    folder = shutil.copytree(checkpoint, tmp_path / "repository")
    for name in ("pytorch_model.bin", "tf_model.h5", "onnx/model.onnx", "checkpoint-10/model.safetensors"):
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_bytes(b"not needed")
    images = shutil.copytree(checkpoint, tmp_path / "images")
    (images / "config.json").write_text(json.dumps({"vision_config": {}}))
    with serving({"owner/tiny": folder, "owner/images": images}) as hub:
        yield hub


def test_a_checkpoint_is_exported_from_the_hub(hub, checkpoint, tmp_path):
    """Only its own files are fetched, the commit is recorded in report and card, and a second export works offline."""
    cache, out = tmp_path / "cache", tmp_path / "out"
    done = hub.run(cache, *EXPORT, "owner/tiny", out, "--revision", "v1")
    assert "agree with the checkpoint" in done.stdout, done.stderr
    wanted = {p.name for p in checkpoint.iterdir() if p.suffix in (".json", ".txt", ".metadata", ".safetensors")}
    assert sorted(hub.sent) == sorted(wanted)
    source = json.loads((out / "parity.json").read_text())["source"]
    assert source == {"repository": "owner/tiny", "revision": COMMITS["v1"]}
    assert f"owner/tiny, commit {COMMITS['v1']}" in (out / "README.md").read_text()
    hub.url = "http://127.0.0.1:9"
    again = hub.run(cache, *EXPORT, "owner/tiny", tmp_path / "again", "--revision", "v1")
    assert "agree with the checkpoint" in again.stdout, again.stderr


def test_a_repository_that_cannot_be_exported_is_refused_before_its_weights(hub, tmp_path):
    """No weights are fetched when the small files tell that it is no ColBERT."""
    done = hub.run(tmp_path / "cache", *EXPORT, "owner/images", tmp_path / "out")
    assert "a model of images" in done.stderr
    assert "config.json" in hub.sent
    assert "model.safetensors" not in hub.sent


@pytest.mark.parametrize(
    ("arguments", "offline", "expected"),
    [
        (["owner/none"], False, "found: 404"),
        (["owner/tiny", "--revision", "v9"], False, "found: 404"),
        (["owner/tiny"], True, "connect to the network, or copy the repository here and name its folder"),
        (["./owner/tiny"], False, "expected a checkpoint's folder or a hub id 'owner/name'"),
        ([".", "--revision", "v1"], False, "expected a hub id 'owner/name' with --revision"),
    ],
)
def test_a_name_without_a_checkpoint_is_refused_in_one_line(hub, tmp_path, arguments, offline, expected):
    """One line says what was wrong with the name, or what to do without a network."""
    hub.url = "http://127.0.0.1:9" if offline else hub.url
    done = hub.run(tmp_path / "cache", *EXPORT, arguments[0], tmp_path / "out", *arguments[1:])
    assert done.returncode != 0
    (line,) = done.stderr.strip().splitlines()
    assert expected in line


def test_pickled_weights_are_taken_where_there_are_no_others():
    """Each folder of a repository gives its safetensors, else its pickled weights."""
    names = ["model.safetensors", "pytorch_model.bin", "1_Dense/pytorch_model.bin", "2_Dense/config.json"]
    weights, others = weights_and_others(
        [*names, "a/b/model.safetensors", "adapter_model.safetensors", "openvino/a.json"]
    )
    assert weights == ["model.safetensors", "1_Dense/pytorch_model.bin"]
    assert others == ["2_Dense/config.json"]


def test_an_ordinary_folder_has_no_source(checkpoint):
    """A folder outside the hub's cache names no repository."""
    assert source_of(checkpoint) is None
