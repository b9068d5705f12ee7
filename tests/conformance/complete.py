"""An implementation of the whole protocol: the definition, an index with files, and a toy encoder.

It is an example of an adapter, and `broken` replaces single functions of it. It is slow, and its encoder has no model:
the vector of a word is drawn with the checksum of the word as the seed.
"""

import hashlib
import json
import zlib
from types import SimpleNamespace

import numpy as np

from .oracle import definition


class Index(definition.Index):
    """The index of the definition with two files: the documents and their checksum."""

    def compact(self):
        """Do nothing: a deletion leaves no data behind."""

    def reader(self):
        """A copy of the present state."""
        copy = type(self)(self.dim)
        copy.documents, copy.terms = dict(self.documents), dict(self.terms)
        return copy

    def files(self):
        """The content of each file, by name."""
        documents = {name: np.asarray(d, np.float64).tolist() for name, d in self.documents.items()}
        content = json.dumps([self.dim, documents, {name: list(t) for name, t in self.terms.items()}]).encode()
        return {"documents.json": content, "sha256": hashlib.sha256(content).hexdigest().encode()}

    @classmethod
    def from_files(cls, files) -> "Index":
        """The index that wrote these files. Raises ValueError if a byte has changed."""
        if hashlib.sha256(files["documents.json"]).hexdigest().encode() != files["sha256"]:
            raise ValueError("documents.json does not have its checksum")
        dim, documents, terms = json.loads(files["documents.json"])
        index = cls(dim)
        index.add(list(documents), list(documents.values()), list(terms.values()))
        return index


class Encoder:
    """Words become ids by checksum, ids become seeded unit vectors; frame and filter are those of the definition."""

    dim = 16
    marks = {"query": 1, "document": 2}  # noqa: RUF012 - a constant
    lengths = {"query": 16, "document": 24}  # noqa: RUF012 - a constant
    punctuation = range(10, 42)

    def frame(self, side):
        """The settings of one side: "query" or "document"."""
        return {
            "prefix": [101, self.marks[side]],
            "suffix": [102],
            "length": self.lengths[side],
            "expansion": 103 if side == "query" else None,
            "skiplist": list(self.punctuation) if side == "document" else [],
        }

    def body(self, text):
        """The ids of the words."""
        symbols = "!\"#$%&'()*+,-./:;<=>?@[\\]^_`{|}~"
        words = "".join(f" {c} " if c in symbols else c for c in text).split()
        return [10 + symbols.index(w) if w in symbols else 200 + zlib.crc32(w.encode()) % 800 for w in words]

    def tokens(self, text, side):
        """The ids, and which rows are kept."""
        f = self.frame(side)
        if side == "query":
            ids = definition.query_ids(self.body(text), f["prefix"], f["suffix"], f["length"], f["expansion"])
        else:
            ids = definition.document_ids(self.body(text), f["prefix"], f["suffix"], f["length"])
        return ids, definition.kept(ids, f["skiplist"])

    def vector(self, token, place):
        """[dim] the unit vector of a token at a position."""
        x = np.random.default_rng([token, place]).standard_normal(self.dim)
        return (x / np.linalg.norm(x)).astype(np.float32)

    def encode(self, text, side):
        """[n, dim] the kept rows of a text."""
        ids, kept = self.tokens(text, side)
        return np.array([self.vector(t, i) for i, (t, keep) in enumerate(zip(ids, kept, strict=True)) if keep])

    def queries(self, texts):
        """One array per text."""
        return [self.encode(text, "query") for text in texts]

    def documents(self, texts):
        """One array per text."""
        return [self.encode(text, "document") for text in texts]


def held(documents, q, k):
    """Encode all tokens, and rank all documents by their decoded vectors: hits and decoded documents."""
    rows = np.concatenate(documents)
    centroids = rows[:: max(len(rows) // 8, 1)]
    residuals = [x - centroids[c] for x, c in zip(rows, definition.assign(rows, centroids), strict=True)]
    steps = definition.steps(residuals, 4, [2.0])
    kept = [
        [definition.decode(*definition.encode(x, centroids, steps, 4), centroids, steps, 4) for x in d]
        for d in documents
    ]
    scores = definition.scores(q, kept)
    return [(i, scores[i]) for i in definition.top_k(scores, k)], kept


def similarities(q, codes, buckets, scales, numbers, centroids, steps, nbits):
    """[n, n_q] similarities with decoded tokens."""
    stored = zip(codes, buckets, scales, numbers, strict=True)
    return np.array([definition.decode(*token, centroids, steps, nbits) for token in stored]) @ np.transpose(q)


def encode_many(vectors, centroids, steps, nbits):
    """Encode one vector after another."""
    return [definition.encode(x, centroids, steps, nbits) for x in vectors]


class Replayed:
    """Returns the stored vectors of the original package: an encoder without an error."""

    def __init__(self, folder) -> None:
        self.folder = folder

    def held(self, texts, side):
        """The kept rows [n, dim] of each text."""
        known = json.loads((self.folder / "expected.json").read_text())["texts"][side]
        with np.load(self.folder / "expected.npz") as rows:
            return [rows[f"{side}_{known.index(text)}"] for text in texts]

    def queries(self, texts):
        """One array per text."""
        return self.held(texts, "query")

    def documents(self, texts):
        """One array per text."""
        return self.held(texts, "document")


def encoder_of(checkpoint):
    """The stored vectors beside the checkpoint."""
    return Replayed(checkpoint.parent)


def complete(name="complete", index=Index, encoder=Encoder, **changes):
    """The whole protocol, with `changes` in place of some functions."""
    offered = {f: getattr(definition, f) for f in definition.__all__}
    offered |= {f.__name__: f for f in (held, similarities, encode_many, encoder_of)}
    return SimpleNamespace(**{**offered, "__name__": name, "Index": index, "Encoder": encoder(), **changes})
