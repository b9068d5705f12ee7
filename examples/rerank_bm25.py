"""Rerank: BM25 (bm25s) finds texts by their words, and ColBERT sorts them by their meaning.

refcolbert also has BM25 itself: `index.search(query, mode="hybrid")`.
"""

import bm25s

import refcolbert

TEXTS = [
    "strptime turns a text into a date",
    "A date is a fruit that grows on a palm",
    "csv.reader gives each row of a file as a list",
    "The first date of a couple is a nervous evening",
    "sorted returns a new list in ascending order",
]


def main(query: str) -> list[str]:
    """Print and return the texts for a query, best first."""
    words = bm25s.BM25()
    words.index(bm25s.tokenize(TEXTS, show_progress=False), show_progress=False)
    found, _ = words.retrieve(bm25s.tokenize([query], show_progress=False), corpus=TEXTS, k=4, show_progress=False)
    # Loaded once. Without an encoder, each call of `rerank` loads the model.
    encoder = refcolbert.Encoder.load()
    hits = refcolbert.rerank(query, found[0].tolist(), encoder)
    print("BM25:   ", *found[0], sep="\n  ")
    print("ColBERT:", *(f"{hit.score:.2f} {hit.text}" for hit in hits), sep="\n  ")
    return [hit.text or "" for hit in hits]


if __name__ == "__main__":
    main("how do I parse a date in Python")
