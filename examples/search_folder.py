"""Search a folder: python search_folder.py FOLDER QUESTION.

The index lies beside the folder. A second run encodes only the files that are new or have changed.
"""

import sys
from pathlib import Path

import refcolbert
from refcolbert.corpus.passages import split
from refcolbert.corpus.readers import PASSAGE_OF, read_documents


def main(folder: Path, question: str) -> None:
    """Bring the index up to date and print the three best files, each with its best passage."""
    encoder = refcolbert.Encoder.load()
    index = refcolbert.Index.open_or_create(folder.with_suffix(".index"), encoder)
    # Longer texts are cut into passages that the model reads to the end.
    passages = split(read_documents(folder), encoder.tokenizer.document_room, lengths=encoder.tokenizer.lengths)
    print(index.sync(passages))
    for hit in index.search(question, k=3, group_by=PASSAGE_OF):
        print(f"{hit.rank}  {hit.similarity:.2f}  {hit.id}")
        print("  ", " ".join((hit.text or "").split())[:200])


if __name__ == "__main__":
    main(Path(sys.argv[1]), " ".join(sys.argv[2:]))
