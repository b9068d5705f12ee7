"""The encoder: texts to unit vectors that depend on the text alone, and typed errors for broken models."""

import faulthandler
import json
import logging
import multiprocessing
import os
import pickle
import shutil
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import refcolbert
from refcolbert import Encoder, Ragged
from refcolbert.encoding.encoder import MODEL_FILES, default_model_folder, small_model_folder
from refcolbert.errors import DeviceUnavailable, InvalidInput, InvalidModel, ModelNotFound

TEXTS = [
    "How to parse a date from a string.",
    "",
    "the",
    "A much longer text: the boundary layer of a flow over a wing, heated from the line where it was open, "
    "is not what one would call a list of words, but it has more than the sixty four tokens that a document can hold.",
    "parse the date",
    "naïve CAFÉ 中文 \u201cquoted\u201d",
    "\t \n",
]

some_texts = st.lists(st.sampled_from(["the", "file", "read", "x", ".", "[MASK]", "é"]), max_size=12).map(" ".join)


def near(a, b):
    """True if two arrays of unit rows are the same encoding: max-abs <= 1e-4 and cosines >= 1 - 1e-6."""
    if a.shape != b.shape:
        return False
    cosines = np.einsum("nd,nd->n", a.astype(np.float64), b.astype(np.float64))
    return bool(np.abs(a - b).max() <= 1e-4 and cosines.min() >= 1 - 1e-6)


@pytest.fixture
def model(encoder, tmp_path):
    """A copy of the tiny model's folder that a test may damage."""
    shutil.copytree(encoder.folder, tmp_path / "model")
    return tmp_path / "model"


def respecified(folder, changes):
    """The folder, its spec changed."""
    spec = json.loads((folder / "encoding.json").read_text())
    (folder / "encoding.json").write_text(json.dumps({**spec, **changes}))
    return folder


# ---- vectors


@given(st.lists(some_texts | st.text(max_size=30), max_size=6))
def test_documents_are_unit_float32_rows(encoder, texts):
    """Any texts give one finite float32 row of norm 1 for each kept token, in the caller's order."""
    vectors = encoder.encode_documents(texts)
    assert isinstance(vectors, Ragged)
    assert (len(vectors), vectors.dim, vectors.vectors.dtype) == (len(texts), 16, np.float32)
    assert [len(encoder.document_labels(text)[0]) for text in texts] == vectors.lengths.tolist()
    assert np.abs(np.linalg.norm(vectors.vectors.astype(np.float64), axis=1) - 1).max(initial=0) <= 1e-6


@given(st.lists(some_texts | st.text(max_size=30), max_size=6))
def test_queries_are_unit_float32_rows(encoder, texts):
    """Any query gives as many rows as the spec fills it up to."""
    for q, text in zip(encoder.encode_queries(texts), texts, strict=True):
        assert (q.shape, q.dtype) == ((encoder.spec.query_length, 16), np.float32)
        assert len(encoder.query_labels(text)) == len(q)
        assert np.abs(np.linalg.norm(q.astype(np.float64), axis=1) - 1).max() <= 1e-6


@given(st.lists(some_texts, min_size=1, max_size=10))
def test_a_text_is_the_same_in_any_batch(encoder, texts):
    """Encoded with others, in any order, a text has the vectors that it has alone; order is the caller's."""
    together = encoder.encode_documents(texts)
    backwards = encoder.encode_documents(texts[::-1])
    for i, text in enumerate(texts):
        alone = encoder.encode_documents([text])[0]
        assert near(together[i], alone)
        assert near(backwards[len(texts) - 1 - i], alone)
    for q, text in zip(encoder.encode_queries(texts), texts, strict=True):
        assert near(q, encoder.encode_queries([text])[0])


def test_a_large_batch_is_the_same_as_single_texts(encoder):
    """More texts of one length than one run takes are cut into several without a trace."""
    texts = [f"read the file {i:04d} now" for i in range(300)]
    together = encoder.encode_documents(texts)
    assert all(near(together[i], encoder.encode_documents([texts[i]])[0]) for i in (0, 1, 150, 298, 299))


def test_the_number_of_threads_changes_nothing_but_rounding(encoder):
    """One thread gives the vectors that many give."""
    single = Encoder.load(encoder.folder, threads=1)
    assert single.info()["threads"] == 1
    assert near(single.encode_documents(TEXTS).vectors, encoder.encode_documents(TEXTS).vectors)


def test_equal_texts_get_equal_vectors(encoder):
    """A text that occurs again has the same bits at every place."""
    vectors = encoder.encode_documents(["the file", "a", "the file", "b", "the file", "a"])
    assert (vectors[0] == vectors[2]).all()
    assert (vectors[0] == vectors[4]).all()
    assert (vectors[1] == vectors[5]).all()
    assert vectors[1].shape != vectors[0].shape


def test_queries_do_not_share_memory(encoder):
    """Changing one query's vectors does not change another's."""
    first, second = encoder.encode_queries(["a", "b"])
    before = second.copy()
    first[:] = 0
    assert (second == before).all()


def test_no_texts_give_no_vectors(encoder):
    """An empty list is valid and keeps its dim."""
    assert encoder.encode_queries([]) == []
    assert (len(encoder.encode_documents([])), encoder.encode_documents([]).dim) == (0, 16)


def test_rows_are_in_token_order(encoder):
    """Labels name markers and words in the order of the rows; punctuation has no row."""
    labels, _ = encoder.document_labels("read, the file!")
    assert labels == ["[CLS]", "[unused1]", "read", "the", "file", "[SEP]"]
    assert encoder.query_labels("read, the file!")[:9] == [
        *("[CLS]", "[unused0]", "read", ",", "the", "file", "!", "[SEP]", "[MASK]")
    ]


def test_a_different_token_gives_different_vectors(encoder):
    """The text matters, also through attention: a word's vector depends on its neighbour."""
    a, b = encoder.encode_documents(["read file", "open file"])
    assert not near(a[2:3], b[2:3])
    assert not near(a[3:4], b[3:4])


@pytest.mark.parametrize(("attended", "same"), [(False, True), (True, False)])
def test_expansion_is_attended_only_when_the_spec_says_so(encoder, model, attended, same):
    """Unattended expansion leaves the vectors of the query's own tokens as they are without any; attended does not."""
    expanded = Encoder.load(respecified(model, {"expansion_attended": attended}))
    plain = Encoder.load(respecified(model, {"expansion_id": None}))
    (short,) = plain.encode_queries(["read the file"])
    (full,) = expanded.encode_queries(["read the file"])
    assert (len(short), len(full)) == (6, 32)
    assert near(full[:6], short) == same


@pytest.mark.parametrize(
    ("text", "beginning"),
    [("read the file. " * 700_000, "read the file. " * 40), ("\0" * 10_000_000, ""), (" " * 1_000_000, "")],
    ids=["10 MB of words", "10 MB of NUL", "1 MB of spaces"],
)
def test_a_very_long_text_is_its_beginning(encoder, text, beginning):
    """Text beyond the length of the spec changes nothing."""
    assert (encoder.encode_documents([text])[0] == encoder.encode_documents([beginning])[0]).all()
    assert (encoder.encode_queries([text])[0] == encoder.encode_queries([beginning])[0]).all()


@pytest.mark.parametrize("kind", ["documents", "queries"])
def test_texts_that_are_cut_are_counted(encoder, kind, caplog):
    """One warning per call has the number of texts that are cut at the model's length, and of all texts."""
    length = encoder.spec.document_length if kind == "documents" else encoder.spec.query_length
    fits = "a " * (length - 3)  # two markers before it, one behind
    encode = encoder.encode_documents if kind == "documents" else encoder.encode_queries
    with caplog.at_level(logging.WARNING, logger="refcolbert.lengths"):
        encode(["", fits])
        assert caplog.messages == []
        encode([fits + "b", fits, fits + "a b c", "a" + " " * 9999])
    (message,) = caplog.messages
    assert message.startswith(f"2 of 4 {kind} have more tokens than the {length} that the model reads")


def test_progress_counts_every_text_once(encoder):
    """A progress function is given counts that add up to the number of texts, repetitions included."""
    counts = []
    encoder.encode_documents([*TEXTS, *TEXTS, "more"], progress=counts.append)
    assert sum(counts) == 2 * len(TEXTS) + 1


def test_progress_counts_texts_by_their_tokens(encoder):
    """The longest text, which is encoded first, counts as many texts as its share of the tokens says."""
    counts = []
    texts = ["date " * 57, *(f"a {n}" for n in range(10, 26))]  # 60 tokens, and 16 times at least 5
    encoder.encode_documents(texts, progress=counts.append)
    lengths = [len(t.ids) for t in encoder.tokenizer.documents(texts)]
    assert counts[0] == len(texts) * max(lengths) // sum(lengths) > 3
    assert sum(counts) == len(texts)


def test_a_progress_bar_goes_to_stderr(encoder, capsys):
    """progress=True leaves stdout alone; the default shows nothing."""
    encoder.encode_documents(["a", "b"], progress=True)
    out, err = capsys.readouterr()
    assert out == ""
    assert "encode" in err
    encoder.encode_documents(["a", "b"])
    assert capsys.readouterr() == ("", "")


# ---- refused arguments


@pytest.mark.parametrize(
    ("texts", "message"),
    [
        ("one text", r"pass \[text\]"),
        (["a", 5], "item 1 must be a string, found int"),
        (["a", None], "item 1 must be a string, found NoneType"),
        (["a", b"b"], "item 1 must be a string, found bytes"),
        ([["a"]], "item 0 must be a string, found list"),
        (["a", "b\ud800"], "item 1 holds a lone surrogate at character 1"),
        (["\udfff"], "item 0 holds a lone surrogate at character 0"),
        (None, "expected"),
        (5, "expected"),
    ],
    ids=range(9),
)
@pytest.mark.parametrize("encode", ["encode_queries", "encode_documents"])
def test_other_values_than_a_list_of_texts_are_refused(encoder, encode, texts, message):
    """A bare string, other items and lone surrogates are an InvalidInput naming the item."""
    with pytest.raises(InvalidInput, match=message):
        getattr(encoder, encode)(texts)


@pytest.mark.parametrize("encode", ["encode_queries", "encode_documents"])
def test_a_generator_is_not_taken_for_nothing(encoder, encode):
    """Texts that can be read only once are encoded."""
    assert len(getattr(encoder, encode)(text for text in ("a", "b"))) == 2


@pytest.mark.parametrize("label", ["query_labels", "document_labels"])
@pytest.mark.parametrize("text", [5, None, "\ud800"], ids=ascii)
def test_labels_are_of_texts_only(encoder, label, text):
    """Labels refuse the same values as encoding."""
    with pytest.raises(InvalidInput):
        getattr(encoder, label)(text)


@pytest.mark.parametrize("device", ["gpu", "CPU", "", None, 0])
def test_an_unknown_device_is_refused(encoder, device):
    """The three names are the only ones."""
    with pytest.raises(InvalidInput, match="device must be 'cpu', 'cuda' or 'auto'"):
        Encoder.load(encoder.folder, device=device)


@pytest.mark.parametrize("threads", [0, -1, 1.0, "1", True])
def test_threads_must_be_a_count(encoder, threads):
    """Zero does not mean all cores; None does."""
    with pytest.raises(InvalidInput, match="threads must be None or an integer >= 1"):
        Encoder.load(encoder.folder, threads=threads)


# ---- devices: both tests expect ONNX Runtime without CUDA, as in the `onnxruntime` package, a dependency


def test_cuda_is_refused_where_it_cannot_run(encoder):
    """Asking for CUDA is an error that names the package to install, never a silent CPU."""
    with pytest.raises(DeviceUnavailable, match="onnxruntime-gpu"):
        Encoder.load(encoder.folder, device="cuda")


def test_auto_falls_back_and_says_so(encoder, caplog):
    """device="auto" runs on the CPU, logs it, and gives the same vectors."""
    with caplog.at_level(logging.INFO, logger="refcolbert"):
        automatic = Encoder.load(encoder.folder, device="auto")
    assert "CPU" in caplog.text
    assert automatic.info()["providers"] == ["CPUExecutionProvider"]
    assert (automatic.encode_documents(TEXTS).vectors == encoder.encode_documents(TEXTS).vectors).all()


# ---- the place of the model


def test_a_folder_is_loaded_by_path_or_text(encoder, model):
    """A model is named by its content: a copy elsewhere has the same hash, another spec another one."""
    assert Encoder.load(str(model)).hash == Encoder.load(model).hash == encoder.hash
    assert Encoder.load(model).source == str(model)
    respecified(model, {"document_length": 32})
    assert Encoder.load(model).hash != encoder.hash


def test_a_relative_path_is_remembered_as_absolute(encoder, model, monkeypatch):
    """A relative path is loaded again after the process changed its folder."""
    monkeypatch.chdir(model.parent)
    loaded = Encoder.load("model")
    monkeypatch.chdir("/")
    assert loaded.source == str(model)
    assert pickle.loads(pickle.dumps(loaded)).hash == encoder.hash  # noqa: S301 - our own bytes


@pytest.mark.parametrize("name", ["none", "./none/here", "/none/here", "a/b/c", "encoding.json", "a\0b"])
def test_a_path_where_no_folder_is_gives_model_not_found(model, monkeypatch, name):
    """The message names the path and the form of a hub id; nothing is downloaded."""
    monkeypatch.chdir(model)
    with pytest.raises(ModelNotFound, match="hub id has the form 'owner/name'"):
        Encoder.load(name)


def test_the_default_model_lies_in_the_package(encoder, model, monkeypatch):
    """load() takes the packaged model; without it the error says that refcolbert must be installed again."""
    assert default_model_folder() == Path(refcolbert.__file__).parent / "default_model"
    monkeypatch.setattr("refcolbert.encoding.encoder.default_model_folder", lambda: model)
    assert (Encoder.load().hash, Encoder.load().source) == (encoder.hash, None)
    model.rename(model.with_name("elsewhere"))
    with pytest.raises(ModelNotFound, match="install refcolbert again"):
        Encoder.load()


def test_the_small_model_has_a_name(encoder, model, monkeypatch, tmp_path):
    """The name means the package's model even where a folder is called "small"; a path means the folder."""
    assert small_model_folder() == Path(refcolbert.__file__).parent / "small_model"
    monkeypatch.setattr("refcolbert.encoding.encoder.small_model_folder", lambda: model)
    monkeypatch.chdir(tmp_path)
    (tmp_path / "small").mkdir()
    small = Encoder.load("small")
    assert (small.hash, small.source) == (encoder.hash, "small")
    assert pickle.loads(pickle.dumps(small)).source == "small"  # noqa: S301 - our own bytes
    with pytest.raises(InvalidModel, match=r"small must hold model\.onnx"):
        Encoder.load("./small")
    model.rename(model.with_name("elsewhere"))
    with pytest.raises(ModelNotFound, match="lacks the small model"):
        Encoder.load("small")


def test_info_says_what_the_encoder_is(encoder):
    """The figures come from the spec and the session, and are JSON."""
    info = encoder.info()
    assert (info["hash"], info["dim"], info["device"]) == (encoder.hash, encoder.dim, "cpu")
    assert (info["query_length"], info["document_length"]) == (32, 64)
    assert info["providers"] == ["CPUExecutionProvider"]
    json.dumps(info)


# ---- broken models


@pytest.mark.parametrize("name", MODEL_FILES)
def test_a_missing_file_is_named(model, name):
    """A folder without one of its files is an InvalidModel naming it."""
    (model / name).unlink()
    with pytest.raises(InvalidModel, match=f"missing: {name}"):
        Encoder.load(model)


@pytest.mark.parametrize("name", MODEL_FILES)
@pytest.mark.parametrize("damage", ["empty", "text", "cut", "binary"])
def test_a_damaged_file_is_refused(model, name, damage):
    """Bytes that are not a model, a tokenizer or a spec are an InvalidModel with the file's name."""
    whole = (model / name).read_bytes()
    bad = {"empty": b"", "text": b"not what was expected", "cut": whole[: len(whole) // 2], "binary": b"\xff\xfe" * 99}
    (model / name).write_bytes(bad[damage])
    with pytest.raises(InvalidModel, match=name):
        Encoder.load(model)


def test_a_model_of_another_dim_than_its_spec_is_refused(model):
    """The message names both shapes."""
    with pytest.raises(InvalidModel, match=r"\[batch, length, 17\].*16"):
        Encoder.load(respecified(model, {"dim": 17}))


@pytest.mark.parametrize(
    "changes",
    [{"document_prefix_ids": [4, 99_999]}, {"document_suffix_ids": [2**70]}, {"document_length": 600}],
    ids=["no such id", "no such integer", "no such position"],
)
def test_a_spec_that_the_model_cannot_follow_is_refused(model, changes):
    """Ids and lengths beyond the model's tables are an InvalidModel, when loading or at the first text."""
    with pytest.raises(InvalidModel):
        Encoder.load(respecified(model, changes)).encode_documents(["read the file " * 300])


@pytest.mark.parametrize("text", ["", " ", "\0"], ids=ascii)
def test_a_text_that_gives_no_vector_is_refused(model, text):
    """Without markers an empty text has no rows, and a document or query of none cannot be scored."""
    frames = ("query_prefix_ids", "query_suffix_ids", "document_prefix_ids", "document_suffix_ids")
    bare = Encoder.load(respecified(model, {**{name: [] for name in frames}, "expansion_id": None}))
    assert len(bare.encode_documents(["the"])[0]) == len(bare.encode_queries(["the"])[0]) == 1
    with pytest.raises(InvalidInput, match="at least one token with a vector"):
        bare.encode_documents(["the", text])
    with pytest.raises(InvalidInput, match="at least one token with a vector"):
        bare.encode_queries(["the", text])


def graph(folder, *, table, output="vectors", inputs=("input_ids", "attention_mask"), rows=True, dtype="FLOAT"):
    """Give the model folder a graph that looks every id up in `table` [n_ids, dim], and that spec's dim."""
    import onnx
    from onnx import helper, numpy_helper

    shape = ["batch", "length"]
    node = helper.make_node("Gather", ["table", inputs[0]], ["found" if not rows else output], axis=0)
    nodes = [node] if rows else [node, helper.make_node("ReduceMean", ["found", "one"], [output], keepdims=0)]
    constants = [numpy_helper.from_array(table, "table")]
    if not rows:
        constants.append(numpy_helper.from_array(np.array([1]), "one"))
    outputs = [*shape, table.shape[1]] if rows else ["batch", table.shape[1]]
    lookup = helper.make_graph(
        nodes,
        "lookup",
        [helper.make_tensor_value_info(name, onnx.TensorProto.INT64, shape) for name in inputs],
        [helper.make_tensor_value_info(output, getattr(onnx.TensorProto, dtype), outputs)],
        constants,
    )
    opset = [helper.make_opsetid("", 18)]
    onnx.save(helper.make_model(lookup, opset_imports=opset, ir_version=9), folder / "model.onnx")
    return respecified(folder, {"dim": table.shape[1]})


def unit_table(n_ids=256, dim=4, dtype=np.float32):
    """[n_ids, dim] rows of norm 1."""
    table = np.random.default_rng(0).normal(size=(n_ids, dim))
    return (table / np.linalg.norm(table, axis=1, keepdims=True)).astype(dtype)


@pytest.mark.export
def test_any_graph_with_the_signature_is_a_model(model):
    """A lookup table is a valid model: a document's rows are its kept ids' rows, bit for bit."""
    table = unit_table()
    encoder = Encoder.load(graph(model, table=table))
    assert encoder.dim == 4
    assert (encoder.encode_documents(["the, of"])[0] == table[[4, 2, 111, 112, 5]]).all()
    assert (encoder.encode_queries(["the"])[0] == table[[4, 1, 111, 5] + [6] * 28]).all()


@pytest.mark.export
@pytest.mark.parametrize("value", [np.nan, np.inf, 0.0, 0.5, 1.01, -3e38])
def test_a_row_that_is_not_of_norm_1_is_refused(model, value):
    """One token whose vector is NaN, infinite, zero or not normalized is an InvalidModel; other texts still encode."""
    table = unit_table()
    table[111] = [value, 0, 0, 0]  # "the"
    encoder = Encoder.load(graph(model, table=table))
    assert len(encoder.encode_documents(["of"])[0]) == 4
    with pytest.raises(InvalidModel, match=r"model\.onnx must give float32 rows of norm 1"):
        encoder.encode_documents(["of", "of the"])
    with pytest.raises(InvalidModel, match=r"model\.onnx must give float32 rows of norm 1"):
        encoder.encode_queries(["the"])


@pytest.mark.export
@pytest.mark.parametrize(
    "wrong",
    [
        {"table": unit_table(dtype=np.float64), "dtype": "DOUBLE"},
        {"table": unit_table(dtype=np.float16), "dtype": "FLOAT16"},
        {"table": unit_table(), "inputs": ("ids", "attention_mask")},
        {"table": unit_table(), "inputs": ("input_ids", "mask")},
        {"table": unit_table(), "inputs": ("input_ids",)},
        {"table": unit_table(), "inputs": ("input_ids", "attention_mask", "token_type_ids")},
        {"table": unit_table(), "rows": False},
    ],
    ids=["float64", "float16", "no input_ids", "no attention_mask", "one input", "three inputs", "pooled"],
)
def test_a_graph_of_another_signature_is_refused(model, wrong):
    """Other inputs, another type or one vector per text are an InvalidModel with both signatures."""
    with pytest.raises(InvalidModel, match=r"model\.onnx must take .*input_ids.*found inputs"):
        Encoder.load(graph(model, **wrong))


@pytest.mark.export
def test_a_model_cannot_read_files_beside_it(model):
    """Weights kept outside model.onnx are refused: the content hash would not cover them."""
    import onnx

    graph(model, table=unit_table(4096))
    loaded = onnx.load(model / "model.onnx")
    onnx.save(loaded, model / "model.onnx", save_as_external_data=True, location="weights.bin", size_threshold=0)
    assert (model / "weights.bin").exists()
    with pytest.raises(InvalidModel, match=r"another file, which is never read"):
        Encoder.load(model)


# ---- pickle, fork, threads


def test_a_pickled_encoder_is_loaded_again(encoder):
    """The other side gets the same model with the same settings, and not its bytes."""
    original = Encoder.load(encoder.folder, threads=1)
    data = pickle.dumps(original)
    assert len(data) < 2_000
    copy = pickle.loads(data)  # noqa: S301 - our own bytes
    assert (copy.hash, copy.source, copy.info()) == (original.hash, original.source, original.info())
    assert copy.encode_documents(TEXTS).vectors.tobytes() == original.encode_documents(TEXTS).vectors.tobytes()


@pytest.mark.parametrize("change", ["encoding", "gone"])
def test_a_pickled_encoder_refuses_a_changed_folder(model, change):
    """Another content at the same place is an InvalidModel, no content a ModelNotFound."""
    data = pickle.dumps(Encoder.load(model))
    if change == "gone":
        shutil.rmtree(model)
        with pytest.raises(ModelNotFound, match="no model folder"):
            pickle.loads(data)  # noqa: S301 - our own bytes
    else:
        respecified(model, {"document_length": 32})
        with pytest.raises(InvalidModel, match="changed since the encoder was pickled"):
            pickle.loads(data)  # noqa: S301 - our own bytes


def in_forked_child(function):
    """The value that `function` returns, or the name of the error that it raises, in a forked child."""
    context = multiprocessing.get_context("fork")
    receiver, sender = context.Pipe(duplex=False)

    def child_main():
        faulthandler.dump_traceback_later(50, exit=True)  # a child that hangs says where
        try:
            sender.send((os.getpid(), function()))
        except Exception as error:  # noqa: BLE001 - it is sent to the parent
            sender.send((os.getpid(), f"{type(error).__name__}: {error}"))

    child = context.Process(target=child_main)
    child.start()
    try:
        assert receiver.poll(60), "the child gave no answer"
        pid, answer = receiver.recv()
        assert pid == child.pid
        return answer
    finally:
        child.kill()
        child.join()


def test_a_forked_child_gives_the_same_bits(encoder):
    """An encoder that was used before the fork can be used in the child, and in the parent afterwards."""
    before = encoder.encode_documents(TEXTS).vectors.tobytes()
    assert in_forked_child(lambda: encoder.encode_documents(TEXTS).vectors.tobytes()) == before
    assert encoder.encode_documents(TEXTS).vectors.tobytes() == before


FORK = """
import hashlib, os, sys
from refcolbert import Encoder
encoder = Encoder.load(sys.argv[1])
encoder.encode_queries(["before"])
hashlib.sha256(bytes(1 << 28))  # long enough for the session's threads to fall asleep
child = os.fork()
if child or sys.argv[2] == "used":
    encoder.encode_queries(["after"])
if child:
    sys.exit(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
"""


@pytest.mark.parametrize("use", ["used", "unused"])
def test_a_forked_child_ends(model, use):
    """A child that inherits the encoder ends by itself, with its interpreter's ordinary exit.

    ONNX Runtime from 1.32 on also starts a telemetry thread, which hangs the exit of any forked child: it is off here.
    """
    environment = {**os.environ, "ORT_DISABLE_TELEMETRY": "1"}
    done = subprocess.run([sys.executable, "-c", FORK, str(model), use], timeout=120, check=False, env=environment)
    assert done.returncode == 0


def test_a_forked_child_refuses_a_changed_folder(model):
    """The child reads the model again, and only the same one."""
    encoder = Encoder.load(model)
    encoder.encode_documents(["a"])
    respecified(model, {"document_length": 32})
    answer = in_forked_child(lambda: encoder.encode_documents(["a"]))
    assert answer.startswith("InvalidModel")
    assert "changed since it was loaded" in answer


def test_threads_share_one_encoder(encoder):
    """Sixteen threads that encode at the same time get the bits that one thread gets."""
    calls = [TEXTS[i % 3 :] for i in range(64)]
    expected = [encoder.encode_documents(texts).vectors.tobytes() for texts in calls]
    with ThreadPoolExecutor(16) as pool:
        documents = list(pool.map(lambda texts: encoder.encode_documents(texts).vectors.tobytes(), calls))
        queries = list(pool.map(lambda texts: [q.tobytes() for q in encoder.encode_queries(texts)], calls))
    assert documents == expected
    assert queries[:3] == [[q.tobytes() for q in encoder.encode_queries(texts)] for texts in calls[:3]]
    assert queries[3:6] == queries[:3]
