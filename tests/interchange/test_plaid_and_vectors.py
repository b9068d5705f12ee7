"""Import of PLAID folders, written here bit by bit as fast-plaid and next-plaid lay them out, and export of vectors."""

import importlib
import json
import pickle
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from strategies import unit

from refcolbert import Index, Ragged
from refcolbert.errors import CorruptIndexError, IndexExists, IndexWriteError, InvalidInput
from refcolbert.interchange.plaid import import_plaid, open_plaid
from refcolbert.interchange.vector_files import LARGEST_HEADER, export_vectors

DIM, LENGTHS = 8, ([3, 1, 5], [2, 2])
resource = None if sys.platform == "win32" else importlib.import_module("resource")
REAL = Path(__file__).parents[2] / "golden" / "plaid" / "2bits"


def write_folder(folder, nbits, dtype=np.float16, dim=DIM):
    """A PLAID folder of two chunks; returns the vectors that it stands for, one array a document."""
    rng = np.random.default_rng(nbits)
    centroids = unit(rng, 6, dim).astype(dtype)
    weights = np.linspace(-0.2, 0.2, 2**nbits).astype(dtype)
    folder.mkdir()
    np.save(folder / "centroids.npy", centroids)
    np.save(folder / "bucket_weights.npy", weights)
    (folder / "metadata.json").write_text(json.dumps({"num_chunks": 2, "nbits": nbits, "num_documents": 5}))
    documents = []
    for chunk, lengths in enumerate(LENGTHS):
        codes = rng.integers(0, 6, sum(lengths))
        buckets = rng.integers(0, 2**nbits, (sum(lengths), dim))
        rows = []
        for row in buckets:
            text = "".join(
                format(b, f"0{nbits}b")[::-1] for b in row
            )  # each number low bit first, bytes high bit first
            rows.append([int(text[i : i + 8], 2) for i in range(0, len(text), 8)])
        np.save(folder / f"{chunk}.codes.npy", codes.astype(np.int64))
        np.save(folder / f"{chunk}.residuals.npy", np.array(rows, np.uint8))
        (folder / f"doclens.{chunk}.json").write_text(json.dumps(lengths))
        vectors = centroids[codes].astype(np.float64) + weights[buckets].astype(np.float64)
        vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
        documents += np.split(vectors, np.cumsum(lengths)[:-1])
    return documents


@pytest.mark.parametrize("nbits", [1, 2, 4, 8])
@pytest.mark.parametrize("dtype", [np.float16, np.float32])
def test_vectors_are_those_the_folder_stands_for(tmp_path, nbits, dtype):
    """Every document decodes to centroid plus bucket weights, normalized, at each number of bits and both dtypes."""
    expected = write_folder(tmp_path / "p", nbits, dtype)
    found = [d for chunk in open_plaid(tmp_path / "p") for d in chunk]
    assert [d.shape for d in found] == [d.shape for d in expected]
    assert all(np.allclose(a, b, atol=1e-6) for a, b in zip(found, expected, strict=True))


def records(names):
    """Documents with these ids."""
    return [{"id": name, "text": f"text of {name}"} for name in names]


def test_an_imported_index_answers(tmp_path):
    """Ids are positions, or texts and ids are those given, and a document's own vectors find it."""
    expected = write_folder(tmp_path / "p", 4)
    index = import_plaid(tmp_path / "p", tmp_path / "a", nbits="float32")
    assert index.ids() == ["0", "1", "2", "3", "4"]
    assert index.search(expected[2], 1)[0].id == "2"
    named = import_plaid(tmp_path / "p", tmp_path / "b", documents=iter(records("vwxyz")))
    hit = named.search(expected[3], 1)[0]
    assert (hit.id, hit.text) == ("y", "text of y")
    assert named.info()["segments"] == 1
    assert sorted(p.name for p in tmp_path.iterdir()) == ["a", "b", "p"]
    with pytest.raises(IndexExists):
        import_plaid(tmp_path / "p", tmp_path / "a")


def test_an_import_with_its_model_takes_text_queries(tmp_path, encoder):
    """The index names the encoder, so that texts can be asked and added; one of another dim is refused."""
    write_folder(tmp_path / "p", 4, dim=encoder.dim)
    index = import_plaid(tmp_path / "p", tmp_path / "i", encoder=encoder, documents=[f"text {i}" for i in range(5)])
    assert len(index.search("a text", 3)) == 3
    assert index.info()["encoder"]["hash"] == encoder.hash
    write_folder(tmp_path / "other", 4)
    with pytest.raises(InvalidInput, match="dim"):
        import_plaid(tmp_path / "other", tmp_path / "o", encoder=encoder)
    assert not list(tmp_path.glob("o[!t]*"))


@pytest.mark.parametrize("names", ["abcd", "abcdef", "abca"])
def test_texts_must_be_as_many_as_documents(tmp_path, names):
    """One too few, one too many and an id that comes twice are refused, and nothing is left."""
    write_folder(tmp_path / "p", 4)
    with pytest.raises(InvalidInput, match=r"expected texts for the 5 documents|'a' occurs twice"):
        import_plaid(tmp_path / "p", tmp_path / "i", documents=records(names))
    assert [p.name for p in tmp_path.iterdir()] == ["p"]


def test_an_import_is_published_complete(tmp_path):
    """While documents are still being read there is no index at the target."""
    write_folder(tmp_path / "p", 4)

    def watching():
        for record in records("vwxyz"):
            assert not (tmp_path / "i").exists()
            yield record

    assert len(import_plaid(tmp_path / "p", tmp_path / "i", documents=watching())) == 5


def test_an_import_does_not_continue_another_build(tmp_path):
    """What an interrupted build or import left at the same target is not mixed in, and not removed."""
    write_folder(tmp_path / "p", 4)
    (tmp_path / "i.building").mkdir()
    with pytest.raises(IndexExists, match=r"i\.building"):
        import_plaid(tmp_path / "p", tmp_path / "i")
    assert (tmp_path / "i.building").exists()


HIDDEN = """
import sys
sys.modules["torch"] = None
from refcolbert.errors import MissingDependency
from refcolbert.interchange.plaid import import_plaid
try:
    import_plaid(sys.argv[1], sys.argv[2])
except MissingDependency as error:
    print(error)
"""


def test_without_the_torch_side_pt_files_name_the_extra(tmp_path):
    """Stanford's index folders are a MissingDependency that says what to install."""
    arguments = [sys.executable, "-c", HIDDEN, str(REAL), str(tmp_path / "i")]
    found = subprocess.run(arguments, check=True, capture_output=True, text=True, timeout=120)
    assert "refcolbert[export]" in found.stdout
    assert not (tmp_path / "i").exists()


def resave(folder, name, array):
    """Replace one array."""
    np.save(folder / name, array, allow_pickle=True)


WRONG = {
    "a pickled buffer": lambda f: (f / "buffer.npy").write_bytes(pickle.dumps([1])),
    "no metadata": lambda f: (f / "metadata.json").unlink(),
    "metadata that is a list": lambda f: (f / "metadata.json").write_text("[]"),
    "a negative count": lambda f: (f / "metadata.json").write_text('{"num_chunks": -1, "nbits": 4}'),
    "three bits": lambda f: (f / "metadata.json").write_text('{"num_chunks": 2, "nbits": 3}'),
    "other bits": lambda f: (f / "metadata.json").write_text('{"num_chunks": 2, "nbits": 2}'),
    "a missing chunk": lambda f: (f / "1.codes.npy").unlink(),
    "pickled centroids": lambda f: resave(f, "centroids.npy", np.array([{}], object)),
    "centroids of integers": lambda f: resave(f, "centroids.npy", np.ones((6, DIM), int)),
    "centroids of NaN": lambda f: resave(f, "centroids.npy", np.full((6, DIM), np.nan)),
    "infinite centroids": lambda f: resave(f, "centroids.npy", np.full((6, DIM), np.inf)),
    "centroids whose norm overflows": lambda f: resave(f, "centroids.npy", np.full((6, DIM), 1e30)),
    "a header that does not end": lambda f: (f / "centroids.npy").write_bytes(
        b"\x93NUMPY\x01\x00\x76\x00" + b"{'descr': '<f4', 'shape': (6L, ".ljust(117) + b"\n" + bytes(192)
    ),
    "flat centroids": lambda f: resave(f, "centroids.npy", np.ones(6)),
    "codes out of range": lambda f: resave(f, "0.codes.npy", np.full(9, 6)),
    "negative codes": lambda f: resave(f, "0.codes.npy", np.full(9, -1)),
    "fewer codes": lambda f: resave(f, "0.codes.npy", np.zeros(8, int)),
    "narrow residuals": lambda f: resave(f, "0.residuals.npy", np.zeros((9, 3), np.uint8)),
    "wide residuals": lambda f: resave(f, "0.residuals.npy", np.zeros((9, 4), np.uint16)),
    "an empty document": lambda f: (f / "doclens.0.json").write_text("[4, 0, 5]"),
    "lengths that are not a list": lambda f: (f / "doclens.0.json").write_text('{"a": 9}'),
    "cut residuals": lambda f: (f / "0.residuals.npy").write_bytes((f / "0.residuals.npy").read_bytes()[:-1]),
    "an archive": lambda f: np.savez((f / "0.codes.npy").open("wb"), a=np.zeros(9)),
    "no chunks": lambda f: (f / "metadata.json").write_text('{"num_chunks": 0, "nbits": 4}'),
    "a link": lambda f: ((f / "0.codes.npy").unlink(), (f / "0.codes.npy").symlink_to(f / "1.codes.npy")),
}


@pytest.mark.parametrize("name", WRONG)
def test_a_folder_without_such_an_index_is_refused(tmp_path, name):
    """Each is a typed error, nothing is unpickled, and no index is made."""
    write_folder(tmp_path / "p", 4)
    WRONG[name](tmp_path / "p")
    with pytest.raises((InvalidInput, CorruptIndexError)):
        import_plaid(tmp_path / "p", tmp_path / "i")
    assert not (tmp_path / "i").exists()


def as_specified(path):
    """A .safetensors file read as its specification says: (tensors, metadata)."""
    data = path.read_bytes()
    start = 8 + int.from_bytes(data[:8], "little")
    header = json.loads(data[8:start])
    dtypes = {"F32": "<f4", "I64": "<i8"}
    metadata = header.pop("__metadata__")
    assert start % 8 == 0
    assert sorted(bound for t in header.values() for bound in t["data_offsets"])[-1] == len(data) - start
    return {
        name: np.frombuffer(data[start:][slice(*t["data_offsets"])], dtypes[t["dtype"]]).reshape(t["shape"])
        for name, t in header.items()
    }, metadata


def read_export(path):
    """ids, offsets and vectors of an export."""
    if path.suffix == ".npz":
        with np.load(path, allow_pickle=False) as found:
            return found["ids"].tolist(), found["offsets"], found["vectors"]
    tensors, metadata = as_specified(path)
    return json.loads(metadata["ids"]), tensors["offsets"], tensors["vectors"]


@pytest.mark.parametrize("suffix", ["npz", "safetensors"])
def test_exported_vectors_are_those_held(tmp_path, monkeypatch, suffix):
    """ids, offsets and vectors of the live documents, whatever the batch, and an index made of them answers alike."""
    expected = write_folder(tmp_path / "p", 4)
    index = import_plaid(tmp_path / "p", tmp_path / "i", nbits="float32", documents=records(["v", "ü", "x", "y", "z"]))
    index.delete(["ü"])
    del expected[1]
    monkeypatch.setattr("refcolbert.interchange.vector_files.EXPORT_BATCH", 3)
    export_vectors(index, tmp_path / f"out.{suffix}")
    ids, offsets, vectors = read_export(tmp_path / f"out.{suffix}")
    assert (ids, offsets.tolist()) == (["v", "x", "y", "z"], [0, 3, 8, 10, 12])
    assert np.allclose(vectors, np.concatenate(expected), atol=1e-6)
    again = Index.create(tmp_path / "again", dim=DIM, nbits="float32")
    again.add([{"id": name} for name in ids], vectors=Ragged(vectors, offsets))
    answers = [[(h.id, h.score) for h in i.search(expected[2], 4)] for i in (index, again)]
    assert answers[0] == answers[1]
    assert not list(tmp_path.glob("*.part"))


@pytest.mark.parametrize("suffix", ["npz", "safetensors"])
def test_an_empty_index_exports_no_vectors(tmp_path, suffix):
    """Arrays of no rows, still of the right width."""
    export_vectors(Index.create(tmp_path / "empty", dim=3), tmp_path / f"empty.{suffix}")
    ids, offsets, vectors = read_export(tmp_path / f"empty.{suffix}")
    assert (ids, offsets.tolist(), vectors.shape) == ([], [0], (0, 3))


def test_an_export_that_cannot_be_written_leaves_nothing(tmp_path, monkeypatch):
    """Another ending is InvalidInput, a full disk IndexWriteError; ids beyond a safetensors header say so."""
    index = Index.create(tmp_path / "i", dim=3)
    index.add([{"id": "x" * 1000}], vectors=[np.eye(3)])
    with pytest.raises(InvalidInput, match=r"\.npz or \.safetensors"):
        export_vectors(index, tmp_path / "out.pt")
    with pytest.raises(IndexWriteError, match="nowhere"):
        export_vectors(index, tmp_path / "nowhere" / "out.npz")
    monkeypatch.setattr("refcolbert.interchange.vector_files.LARGEST_HEADER", 900)
    with pytest.raises(InvalidInput, match="npz"):
        export_vectors(index, tmp_path / "out.safetensors")
    assert [p.name for p in tmp_path.iterdir()] == ["i"]
    assert LARGEST_HEADER == 100_000_000


@pytest.mark.skipif(resource is None, reason="this system does not limit the size of files")
@pytest.mark.parametrize("suffix", ["npz", "safetensors"])
def test_an_export_that_finds_no_room_leaves_what_was_there(tmp_path, suffix):
    """A file that may not grow is IndexWriteError; an earlier export and what a link leads to keep their content."""
    index = Index.create(tmp_path / "i", dim=64)
    index.add([{"id": "0"}], vectors=[np.ones((100, 64))])
    out, victim = tmp_path / f"out.{suffix}", tmp_path / "victim"
    out.write_bytes(b"earlier")
    victim.write_bytes(b"precious")
    out.with_name(out.name + ".part").symlink_to(victim)
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (9_000, limits[1]))
    try:
        with pytest.raises(IndexWriteError, match=f"out.{suffix}"):
            export_vectors(index, out)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert (out.read_bytes(), victim.read_bytes()) == (b"earlier", b"precious")
    assert sorted(p.name for p in tmp_path.iterdir()) == ["i", out.name, "victim"]


def test_vectors_come_in_the_order_asked_for(tmp_path):
    """Index.vectors follows the ids."""
    expected = write_folder(tmp_path / "p", 4)
    index = import_plaid(tmp_path / "p", tmp_path / "i", nbits="float32")
    found = index.vectors(["3", "0", "4"])
    assert all(np.allclose(found[i], expected[n], atol=1e-6) for i, n in enumerate((3, 0, 4)))
