"""The switches of an EncodingSpec that the tiny model does not use."""

from dataclasses import replace
from pathlib import Path

import pytest
from tokenizers import Tokenizer, models

from refcolbert.encoding.spec import EncodingSpec
from refcolbert.encoding.tokens import TextTokenizer
from refcolbert.errors import InvalidModel

TINY = Path(__file__).parents[1] / "models" / "tiny"
SPEC = EncodingSpec.from_json((TINY / "encoding.json").read_text())


def _tokenizer(**changes):
    return TextTokenizer((TINY / "tokenizer.json").read_text(), replace(SPEC, **changes))


def test_expansion_fills_to_its_own_length():
    """A short query is filled to expansion_length and a long one cut at query_length when they differ."""
    tokenizer = _tokenizer(expansion_length=10)
    short, long = tokenizer.queries(["date", "date " * 50])
    assert (len(short.ids), len(long.ids)) == (10, 32)
    assert SPEC.expansion_id not in long.ids


@pytest.mark.parametrize("length", [0, 33, True])
def test_an_impossible_expansion_length_is_refused(length):
    """The spec is refused when queries would be filled beyond their own limit."""
    with pytest.raises(InvalidModel, match="expansion_length"):
        replace(SPEC, expansion_length=length)


def test_a_word_counts_as_many_tokens_as_it_can_add():
    """Its tokens at the beginning of a text or behind a space, whichever are more, without the frame."""
    words = ["date", "dates", "xyzzyx", "date", "", ","]
    plain = Tokenizer.from_file(str(TINY / "tokenizer.json"))
    expected = [len(plain.encode(word, add_special_tokens=False).ids) for word in words]
    assert _tokenizer().lengths(words) == expected
    vocabulary = {c: i for i, c in enumerate(["c", "a", "t", "d", "o", " ", "ca", "cat", " d", " do"])}
    pairs = [("c", "a"), ("ca", "t"), (" ", "d"), (" d", "o")]
    spaced = TextTokenizer(Tokenizer(models.BPE(vocabulary, pairs)).to_str(), SPEC)
    assert spaced.lengths(["cat", "do", "cat"]) == [2, 2, 2]  # "cat" and " cat", "do" and " do": 1 and 2, 2 and 1


def test_document_room_is_the_length_without_frame_and_prompt():
    """A text of that many tokens is read to its end, a longer one is not."""
    tokenizer = _tokenizer(document_prompt="the date ", document_length=20)
    room = tokenizer.document_room
    assert room == 20 - len(SPEC.document_prefix_ids) - len(SPEC.document_suffix_ids) - 2
    exact, longer = tokenizer.documents(["file " * room, "file " * (room + 1)])
    assert exact.ids.tolist() == longer.ids.tolist()
    assert len(exact.ids) == 20


def test_expansion_is_counted():
    """A query has the number of expansion tokens at its end; a document has none."""
    tokenizer = _tokenizer(expansion_length=10)
    (query,), (document,) = tokenizer.queries(["date"]), tokenizer.documents(["date"])
    assert (query.n_expansion, document.n_expansion) == (6, 0)
