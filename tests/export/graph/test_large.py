"""Models whose weights do not fit into one ONNX file."""

import json
import multiprocessing
import pickle
import shutil

import numpy as np
import onnx
import pytest
from safetensors.numpy import load_file, save_file

from refcolbert.encoding.encoder import WEIGHTS, Encoder
from refcolbert.errors import InvalidModel
from refcolbert_export.conversion import colbert
from refcolbert_export.conversion.colbert import export_checkpoint, verify_against
from refcolbert_export.graph.to_onnx import to_onnx, write_model
from refcolbert_export.layouts.checkpoints import read_checkpoint
from refcolbert_export.parity.report import recheck

LARGEST = 10_000  # bytes, in the place of 2 GiB
TEXT = "what is the number of the line?"


@pytest.fixture(scope="module")
def large(checkpoint, tmp_path_factory):
    """The tiny checkpoint exported as if it were too large for one file, read-only."""
    out = tmp_path_factory.mktemp("large") / "out"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(colbert, "LARGEST_FILE", LARGEST)
        export_checkpoint(checkpoint, out)
    return out


@pytest.fixture
def own(large, tmp_path):
    """A copy that a test may change."""
    return shutil.copytree(large, tmp_path / "own")


def test_weights_lie_beside_the_graph(large, checkpoint, tmp_path):
    """A large model has its weights in a second file and gives the vectors of the same model in one file."""
    assert (large / "model.onnx").stat().st_size < LARGEST * 10 < (large / WEIGHTS).stat().st_size
    export_checkpoint(checkpoint, tmp_path / "whole")
    assert not (tmp_path / "whole" / WEIGHTS).exists()
    a, b = Encoder.load(large), Encoder.load(tmp_path / "whole")
    assert np.array_equal(a.encode_documents([TEXT])[0], b.encode_documents([TEXT])[0])
    assert np.array_equal(a.encode_queries([TEXT])[0], b.encode_queries([TEXT])[0])
    assert a.hash != b.hash
    assert recheck(large)["worst_probe"] < 1e-5
    verify_against(large, checkpoint)


@pytest.mark.parametrize("variant", ["float16", "int8", "int8-int4", "dynamic-int8"])
def test_a_variant_may_be_too_large_as_well(checkpoint_for, tmp_path, monkeypatch, variant):
    """A variant's weights lie beside its graph too when they do not fit."""
    monkeypatch.setattr(colbert, "LARGEST_FILE", LARGEST)
    export_checkpoint(checkpoint_for(variant), tmp_path / "out", variant=variant)
    assert (tmp_path / "out" / WEIGHTS).is_file()


def test_the_hash_covers_the_weights(own, large):
    """One changed weight gives the model another name."""
    found = load_file(own / WEIGHTS)
    name = next(name for name, array in found.items() if array.dtype == np.float32 and array.ndim == 2)
    found[name] = found[name] + np.float32(1e-3)
    save_file(found, own / WEIGHTS)
    assert Encoder.load(own).hash != Encoder.load(large).hash


def test_changed_weights_are_noticed_later(own):
    """A pickled encoder is refused when the weights changed since."""
    data = pickle.dumps(Encoder.load(own))
    whole = (own / WEIGHTS).read_bytes()
    (own / WEIGHTS).write_bytes(whole[:-4] + b"\0\0\0\0")
    with pytest.raises(InvalidModel, match="changed"):
        pickle.loads(data)  # noqa: S301 - made three lines above


def _encode(encoder, queue):
    queue.put(encoder.encode_queries([TEXT])[0])


def test_a_forked_child_reads_the_weights_again(large):
    """The child's vectors are the parent's when it makes its own session."""
    context = multiprocessing.get_context("fork")
    encoder, queue = Encoder.load(large), context.Queue()
    child = context.Process(target=_encode, args=(encoder, queue))
    child.start()
    assert np.array_equal(queue.get(timeout=60), encoder.encode_queries([TEXT])[0])
    child.join()


@pytest.mark.parametrize("damage", ["missing", "empty", "text", "cut", "renamed", "reshaped", "retyped", "more"])
def test_weights_that_do_not_fit_are_refused(own, damage):
    """A missing, damaged or foreign weight file is an InvalidModel."""
    whole, found = (own / WEIGHTS).read_bytes(), load_file(own / WEIGHTS)
    name = next(iter(found))
    bytes_of = {"empty": b"", "text": b"not what was expected", "cut": whole[: len(whole) // 2]}
    arrays_of = {
        "renamed": {"x" if key == name else key: array for key, array in found.items()},
        "reshaped": {**found, name: found[name].reshape(-1)[:-1]},
        "retyped": {**found, name: found[name].astype(np.float16)},
        "more": {**found, "x": np.ones(3, np.float32)},
    }
    (own / WEIGHTS).unlink()
    if damage in bytes_of:
        (own / WEIGHTS).write_bytes(bytes_of[damage])
    elif damage in arrays_of:
        save_file(arrays_of[damage], own / WEIGHTS)
    with pytest.raises(InvalidModel):
        Encoder.load(own)


@pytest.mark.parametrize(
    "entry",
    [
        {"dtype": "F32", "shape": [2], "data_offsets": [0, 4]},
        {"dtype": "F32", "shape": [2], "data_offsets": [-8, 0]},
        {"dtype": "BF16", "shape": [2], "data_offsets": [0, 4]},
        {"dtype": "F32", "shape": [2]},
        {"dtype": "F32", "shape": [-1], "data_offsets": [0, 8]},
        {"dtype": "F32", "shape": ["a"], "data_offsets": [0, 8]},
        [],
        7,
    ],
)
def test_a_header_that_lies_is_refused(own, entry):
    """A safetensors header whose sizes, types or offsets do not fit its data is an InvalidModel."""
    header = json.dumps({"x": entry}).encode()
    (own / WEIGHTS).write_bytes(len(header).to_bytes(8, "little") + header + b"\0" * 8)
    with pytest.raises(InvalidModel):
        Encoder.load(own)


def test_the_threshold_counts_tensors(checkpoint, tmp_path):
    """The writer splits a graph exactly when its large tensors do not fit into the given limit."""
    graph = to_onnx(read_checkpoint(checkpoint).model)
    write_model(graph, tmp_path, largest=10**9)
    assert not (tmp_path / WEIGHTS).exists()
    whole = {t.name for t in onnx.load(tmp_path / "model.onnx").graph.initializer}
    write_model(graph, tmp_path, largest=LARGEST)
    left = onnx.load(tmp_path / "model.onnx", load_external_data=False).graph.initializer
    assert {t.name for t in left} == whole
    assert {t.name for t in left if t.external_data} == set(load_file(tmp_path / WEIGHTS))
