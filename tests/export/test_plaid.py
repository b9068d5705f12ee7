"""Indexes that colbert-ai wrote (golden/plaid): their vectors are those of its own decompression."""

import io
import json
import os
import shutil
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner

from refcolbert import Index
from refcolbert.cli import main
from refcolbert.errors import CorruptIndexError, InvalidInput
from refcolbert.interchange.plaid import import_plaid, open_plaid
from refcolbert.interchange.vector_files import export_vectors

torch = pytest.importorskip("torch")
safetensors_numpy = pytest.importorskip("safetensors.numpy")

GOLDEN = Path(__file__).parents[2] / "golden" / "plaid"
TEXTS = json.loads((GOLDEN / "provenance.json").read_text())["source"]["texts"]
DIM = 32


def decompressed(name):
    """What colbert-ai's codec gave, chunk by chunk."""
    with np.load(GOLDEN / name / "decompressed.npz") as found:
        return [found[f"chunk{i}"] for i in range(len(found.files))]


@pytest.mark.parametrize("name", ["2bits", "4bits"])
def test_vectors_are_those_of_colbert_ai(name):
    """Centroid and weights are added in float32 there and here; the norm of dim squares may round differently."""
    plaid = open_plaid(GOLDEN / name)
    assert plaid.check() == len(TEXTS)
    found, expected = [chunk.vectors for chunk in plaid], decompressed(name)
    assert [f.shape for f in found] == [e.shape for e in expected]
    largest = max(np.abs(f - e).max() for f, e in zip(found, expected, strict=True))
    assert largest <= (DIM / 2 + 3) * 2**-24


def test_the_command_line_imports_with_texts(tmp_path):
    """`refcolbert import` reaches the reader, and texts and ids come from --documents."""
    lines = [json.dumps({"_id": f"t{i}", "text": text}) for i, text in enumerate(TEXTS)]
    (tmp_path / "corpus.jsonl").write_text("\n".join(lines))
    arguments = [str(GOLDEN / "4bits"), str(tmp_path / "i"), "--nbits", "float32"]
    done = CliRunner().invoke(main, ["import", *arguments, "--documents", str(tmp_path / "corpus.jsonl")])
    assert (done.exit_code, "12 documents" in done.output) == (0, True), done.output
    index = Index.open(tmp_path / "i")
    first = np.concatenate(decompressed("4bits"))[: index.vectors(["t0"]).lengths[0]]
    hit = index.search(first, 1)[0]
    assert (hit.id, hit.text) == ("t0", TEXTS[0])


def test_safetensors_reads_what_was_exported(tmp_path):
    """The package that owns the format reads ids, offsets and vectors."""
    index = import_plaid(GOLDEN / "2bits", tmp_path / "i", nbits="float32")
    done = CliRunner().invoke(main, ["vectors", str(tmp_path / "i"), str(tmp_path / "v.safetensors")])
    assert done.exit_code == 0, done.output
    found = safetensors_numpy.load_file(tmp_path / "v.safetensors")
    export_vectors(index, tmp_path / "v.npz")
    with np.load(tmp_path / "v.npz") as other:
        assert np.array_equal(found["vectors"], other["vectors"])
        assert np.array_equal(found["offsets"], other["offsets"])
    assert np.allclose(found["vectors"], np.concatenate(decompressed("2bits")), atol=1e-6)


class Payload:
    """Unpickling this makes a folder."""

    def __init__(self, path) -> None:
        self.path = path

    def __reduce__(self):  # noqa: ANN204 - pickle's
        return os.mkdir, (str(self.path),)


def replace(folder, name, value):
    """Another content of a .pt file."""
    torch.save(value, folder / name)


WRONG = {
    "code in centroids": lambda f: replace(f, "centroids.pt", Payload(f / "ran")),
    "code in codes": lambda f: replace(f, "1.codes.pt", Payload(f / "ran")),
    "code in buckets": lambda f: replace(f, "buckets.pt", (Payload(f / "ran"), Payload(f / "ran"))),
    "a list": lambda f: replace(f, "centroids.pt", [1.0]),
    "one tensor of buckets": lambda f: replace(f, "buckets.pt", torch.zeros(4)),
    "weights of other bits": lambda f: replace(f, "buckets.pt", (torch.zeros(15), torch.zeros(16))),
    "a stretched tensor": lambda f: replace(f, "0.codes.pt", torch.zeros(1, dtype=torch.int32).expand(2**40)),
    "a sparse tensor": lambda f: replace(f, "0.codes.pt", torch.zeros(9, dtype=torch.int32).to_sparse()),
    "fractions as codes": lambda f: replace(f, "0.codes.pt", torch.zeros(9)),
    "negative codes": lambda f: replace(f, "0.codes.pt", torch.load(f / "0.codes.pt") - 1000),
    "NaN": lambda f: replace(f, "centroids.pt", torch.load(f / "centroids.pt") * float("nan")),
    "cut": lambda f: (f / "0.codes.pt").write_bytes((f / "0.codes.pt").read_bytes()[:-100]),
    "nothing": lambda f: (f / "0.codes.pt").write_bytes(b""),
    "text": lambda f: (f / "0.codes.pt").write_bytes(b"hello" * 100),
    "missing": lambda f: (f / "2.residuals.pt").unlink(),
    "a link": lambda f: ((f / "0.codes.pt").unlink(), (f / "0.codes.pt").symlink_to(f / "1.codes.pt")),
    "no nbits": lambda f: (f / "metadata.json").write_text('{"num_chunks": 3}'),
    "lengths of another chunk": lambda f: shutil.copy(f / "doclens.2.json", f / "doclens.0.json"),
}


@pytest.mark.parametrize("name", WRONG)
def test_a_folder_that_is_no_such_index_is_refused(tmp_path, name):
    """Each is a typed error, nothing is run, and no index is made."""
    shutil.copytree(GOLDEN / "2bits", tmp_path / "p")
    WRONG[name](tmp_path / "p")
    with pytest.raises((InvalidInput, CorruptIndexError)):
        import_plaid(tmp_path / "p", tmp_path / "i")
    assert not (tmp_path / "p" / "ran").exists()
    assert [p.name for p in tmp_path.iterdir()] == ["p"]


def test_older_files_and_half_weights_are_read(tmp_path):
    """Tensors saved without a zip archive, and in float16 as a GPU leaves them."""
    shutil.copytree(GOLDEN / "2bits", tmp_path / "p")
    cutoffs, weights = torch.load(tmp_path / "p" / "buckets.pt")
    torch.save((cutoffs.half(), weights.half()), tmp_path / "p" / "buckets.pt", _use_new_zipfile_serialization=False)
    found = next(iter(open_plaid(tmp_path / "p"))).vectors
    assert np.abs(found - decompressed("2bits")[0]).max() < 1e-3


def test_the_golden_names_no_machine():
    """What colbert-ai notes of the machine was left out."""
    buffer = io.StringIO()
    for path in GOLDEN.rglob("*.json"):
        buffer.write(path.read_text())
    assert '"/' not in buffer.getvalue()
    assert sum(p.stat().st_size for p in GOLDEN.rglob("*")) < 200_000
