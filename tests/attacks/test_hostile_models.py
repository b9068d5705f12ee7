"""Model folders made by an attacker: no file but the model's own is read, no foreign operator runs."""

import json
import shutil

import numpy as np
import pytest

from refcolbert import Encoder
from refcolbert.errors import InvalidModel

pytestmark = pytest.mark.export
IDS, DIM = 256, 4


@pytest.fixture
def folder(encoder, tmp_path):
    """A copy of the tiny model's folder, four columns wide, with weights around it that are none of its business."""
    path = tmp_path / "models" / "model"
    shutil.copytree(encoder.folder, path)
    spec = json.loads((path / "encoding.json").read_text())
    (path / "encoding.json").write_text(json.dumps({**spec, "dim": DIM}))
    rows = np.eye(DIM, dtype=np.float32)[np.arange(IDS) % DIM]  # [IDS, DIM]
    for place in (path / "weights.bin", path.parent / "weights.bin", tmp_path / "weights.bin"):
        place.write_bytes(rows.tobytes())
    (path / "link.bin").symlink_to(tmp_path / "weights.bin")
    return path


def save(folder, constants, nodes=(), sparse=(), domains=()):
    """A graph that looks ids up in "table", which `constants`, `sparse` or `nodes` must give."""
    import onnx
    from onnx import helper

    look_up = helper.make_node("Gather", ["table", "input_ids"], ["vectors"], axis=0)
    int64 = onnx.TensorProto.INT64
    made = helper.make_graph(
        [*nodes, look_up],
        "lookup",
        [helper.make_tensor_value_info(name, int64, ["b", "n"]) for name in ("input_ids", "attention_mask")],
        [helper.make_tensor_value_info("vectors", onnx.TensorProto.FLOAT, ["b", "n", DIM])],
        list(constants),
        sparse_initializer=list(sparse),
    )
    opsets = [helper.make_opsetid(name, version) for name, version in (("", 18), *domains)]
    model = helper.make_model(made, opset_imports=opsets, ir_version=9)
    (folder / "model.onnx").write_bytes(model.SerializeToString())


def outside(location, name="table", shape=(IDS, DIM)):
    """A tensor whose data lies in another file."""
    import onnx

    tensor = onnx.TensorProto(name=name, dims=shape, data_type=onnx.TensorProto.FLOAT)
    tensor.data_location = onnx.TensorProto.EXTERNAL
    tensor.external_data.add(key="location", value=str(location))
    return tensor


def table(name="table"):
    """A sound one."""
    from onnx import numpy_helper

    return numpy_helper.from_array(np.eye(DIM, dtype=np.float32)[np.arange(IDS) % DIM], name)


def test_the_same_graph_without_an_attack_is_a_model(folder):
    """What the attacks below change is sound before."""
    save(folder, [table()])
    assert Encoder.load(folder).dim == DIM


@pytest.mark.parametrize("where", ["weights.bin", "../weights.bin", "../../weights.bin", "link.bin", "absolute"])
@pytest.mark.parametrize("kind", ["dense", "sparse", "constant"])
def test_no_file_is_read_for_a_tensor(folder, where, kind, monkeypatch):
    """Data outside model.onnx is refused, wherever it lies and whatever refers to it."""
    import onnx
    from onnx import helper, numpy_helper

    monkeypatch.chdir(folder)
    location = folder / "weights.bin" if where == "absolute" else where
    if kind == "dense":
        save(folder, [outside(location)])
    elif kind == "constant":
        save(folder, [], [helper.make_node("Constant", [], ["table"], value=outside(location))])
    else:
        values = outside(location, shape=(IDS,))
        indices = numpy_helper.from_array(np.arange(IDS) * DIM, "indices")
        save(folder, [], sparse=[onnx.SparseTensorProto(values=values, indices=indices, dims=[IDS, DIM])])
        loaded = onnx.ModelProto.FromString((folder / "model.onnx").read_bytes())
        loaded.graph.sparse_initializer[0].values.name = "table"
        (folder / "model.onnx").write_bytes(loaded.SerializeToString())
    with pytest.raises(InvalidModel, match=r"in another file, which is never read"):
        Encoder.load(folder)


def test_the_graph_inside_a_graph_is_looked_through(folder, monkeypatch):
    """A branch of an If whose constant lies in another file is refused too."""
    import onnx
    from onnx import helper

    monkeypatch.chdir(folder)
    value = helper.make_tensor_value_info("inner", onnx.TensorProto.FLOAT, [IDS, DIM])
    branch = helper.make_graph([], "branch", [], [value], [outside("weights.bin", "inner")])
    yes = helper.make_tensor("yes", onnx.TensorProto.BOOL, [], [True])
    choose = helper.make_node("If", ["yes"], ["table"], then_branch=branch, else_branch=branch)
    save(folder, [yes], [choose])
    with pytest.raises(InvalidModel, match=r"'inner' in another file, which is never read"):
        Encoder.load(folder)


@pytest.mark.parametrize(
    "found",
    [b"\x3a", b"\x3a\x05ab", b"\x3b", b"\xff" * 11, b"\x3d\0", b"\xba\x80\x80\x80\x10\x00", b"\x18\0\0\0ORTM"],
    ids=["no length", "too long", "a group", "no end", "cut", "a number beyond 32 bits", "another format"],
)
def test_what_is_no_message_is_refused(folder, found):
    """Bytes that protobuf would not read, or not as we do, never reach ONNX Runtime."""
    (folder / "model.onnx").write_bytes(found)
    with pytest.raises(InvalidModel, match=r"must be an ONNX file"):
        Encoder.load(folder)


@pytest.mark.parametrize("domain", ["evil", "ai.onnx.evil", "com.microsoft.evil"])
def test_an_operator_of_a_foreign_domain_is_refused(folder, domain):
    """No library is looked for that would have it."""
    from onnx import helper

    node = helper.make_node("Run", ["sound"], ["table"], domain=domain)
    save(folder, [table("sound")], [node], domains=[(domain, 1)])
    with pytest.raises(InvalidModel, match=r"model\.onnx cannot be loaded"):
        Encoder.load(folder)


def test_a_graph_that_asks_for_all_memory_is_refused(folder):
    """A constant of 2^60 bytes is an error at the latest when texts are encoded, and takes no memory."""
    from onnx import helper, numpy_helper

    shape = numpy_helper.from_array(np.array([2**50, DIM]), "shape")
    one = numpy_helper.from_array(np.ones(1, np.float32), "one")
    fill = helper.make_node("ConstantOfShape", ["shape"], ["table"], value=one)
    save(folder, [shape], [fill])
    with pytest.raises(InvalidModel, match=r"model\.onnx"):
        Encoder.load(folder).encode_queries(["the"])
