"""Import of fast-plaid and next-plaid folders: written here bit by bit, as those engines lay them out."""

import json
import pickle

import numpy as np
import pytest
from strategies import unit

from refcolbert import Index
from refcolbert.errors import CorruptIndexError, IndexExists, InvalidInput
from refcolbert.importers import export_vectors, import_plaid, read_plaid

DIM, LENGTHS = 8, ([3, 1, 5], [2, 2])


def write_folder(folder, nbits, dtype=np.float16):
    """A PLAID folder of two chunks; returns the vectors that it stands for, one array a document."""
    rng = np.random.default_rng(nbits)
    centroids = unit(rng, 6, DIM).astype(dtype)
    weights = np.linspace(-0.2, 0.2, 2**nbits).astype(dtype)
    folder.mkdir()
    np.save(folder / "centroids.npy", centroids)
    np.save(folder / "bucket_weights.npy", weights)
    (folder / "metadata.json").write_text(json.dumps({"num_chunks": 2, "nbits": nbits, "num_documents": 5}))
    documents = []
    for chunk, lengths in enumerate(LENGTHS):
        codes = rng.integers(0, 6, sum(lengths))
        buckets = rng.integers(0, 2**nbits, (sum(lengths), DIM))
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
    found = [d for chunk in read_plaid(tmp_path / "p") for d in chunk]
    assert [d.shape for d in found] == [d.shape for d in expected]
    assert all(np.allclose(a, b, atol=1e-6) for a, b in zip(found, expected, strict=True))


def test_an_imported_index_answers(tmp_path):
    """Ids are positions or those given, and a document's own vectors find it."""
    expected = write_folder(tmp_path / "p", 4)
    index = import_plaid(tmp_path / "p", tmp_path / "a", nbits="float32")
    assert index.ids() == ["0", "1", "2", "3", "4"]
    assert index.search(expected[2], 1)[0].id == "2"
    named = import_plaid(tmp_path / "p", tmp_path / "b", ids=list("vwxyz"))
    assert named.search(expected[3], 1)[0].id == "y"
    with pytest.raises(IndexExists):
        import_plaid(tmp_path / "p", tmp_path / "a")


@pytest.mark.parametrize("ids", ["abcd", "abcdef"])
def test_ids_must_be_as_many_as_documents(tmp_path, ids):
    """One too few and one too many are refused."""
    write_folder(tmp_path / "p", 4)
    with pytest.raises(InvalidInput, match="ids"):
        import_plaid(tmp_path / "p", tmp_path / "i", ids=list(ids))


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
    "flat centroids": lambda f: resave(f, "centroids.npy", np.ones(6)),
    "codes out of range": lambda f: resave(f, "0.codes.npy", np.full(9, 6)),
    "negative codes": lambda f: resave(f, "0.codes.npy", np.full(9, -1)),
    "fewer codes": lambda f: resave(f, "0.codes.npy", np.zeros(8, int)),
    "narrow residuals": lambda f: resave(f, "0.residuals.npy", np.zeros((9, 3), np.uint8)),
    "wide residuals": lambda f: resave(f, "0.residuals.npy", np.zeros((9, 4), np.uint16)),
    "an empty document": lambda f: (f / "doclens.0.json").write_text("[4, 0, 5]"),
    "lengths that are no list": lambda f: (f / "doclens.0.json").write_text('{"a": 9}'),
    "cut residuals": lambda f: (f / "0.residuals.npy").write_bytes((f / "0.residuals.npy").read_bytes()[:-1]),
    "an archive": lambda f: np.savez((f / "0.codes.npy").open("wb"), a=np.zeros(9)),
    "no chunks": lambda f: (f / "metadata.json").write_text('{"num_chunks": 0, "nbits": 4}'),
    "a link": lambda f: ((f / "0.codes.npy").unlink(), (f / "0.codes.npy").symlink_to(f / "1.codes.npy")),
}


@pytest.mark.parametrize("name", WRONG)
def test_a_folder_that_is_no_such_index_is_refused(tmp_path, name):
    """Each is a typed error, nothing is unpickled, and no index is made."""
    write_folder(tmp_path / "p", 4)
    WRONG[name](tmp_path / "p")
    with pytest.raises((InvalidInput, CorruptIndexError)):
        import_plaid(tmp_path / "p", tmp_path / "i")
    assert not (tmp_path / "i").exists()


def test_exported_vectors_are_those_held(tmp_path, monkeypatch):
    """numpy.load reads ids, offsets and vectors of the live documents, whatever the batch."""
    expected = write_folder(tmp_path / "p", 4)
    index = import_plaid(tmp_path / "p", tmp_path / "i", nbits="float32", ids=list("vwxyz"))
    index.delete(["w"])
    del expected[1]
    monkeypatch.setattr("refcolbert.importers.EXPORT_BATCH", 3)
    export_vectors(index, tmp_path / "out.npz")
    with np.load(tmp_path / "out.npz", allow_pickle=False) as found:
        assert found["ids"].tolist() == ["v", "x", "y", "z"]
        assert found["offsets"].tolist() == [0, 3, 8, 10, 12]
        assert np.allclose(found["vectors"], np.concatenate(expected), atol=1e-6)
    empty = Index.create(tmp_path / "empty", dim=3)
    export_vectors(empty, tmp_path / "empty.npz")
    with np.load(tmp_path / "empty.npz", allow_pickle=False) as found:
        assert found["vectors"].shape == (0, 3)


def test_vectors_come_in_the_order_asked_for(tmp_path):
    """Index.vectors follows the ids."""
    expected = write_folder(tmp_path / "p", 4)
    index = import_plaid(tmp_path / "p", tmp_path / "i", nbits="float32")
    found = index.vectors(["3", "0", "4"])
    assert all(np.allclose(found[i], expected[n], atol=1e-6) for i, n in enumerate((3, 0, 4)))
