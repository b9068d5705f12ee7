"""The switches of an EncodingSpec that the tiny model does not use."""

from concurrent.futures import ThreadPoolExecutor
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


def test_query_rows_can_be_dropped():
    """Rows of the query skiplist are not kept when there is one."""
    (tokens,) = _tokenizer(query_skiplist=(SPEC.expansion_id,)).queries(["date"])
    assert tokens.keep.tolist() == [True] * 4 + [False] * 28


def test_a_literal_padding_token_expands():
    """A spelled padding token becomes the expansion token, attended, when the spec says so."""
    ids = _tokenizer().queries(["[PAD] date"])[0]
    kept = _tokenizer(pad_expands=False).queries(["[PAD] date"])[0]
    assert (ids.ids[2], bool(ids.attention[2])) == (SPEC.expansion_id, True)
    assert kept.ids[2] == SPEC.pad_id


def test_strip_and_lowercase_apply_to_the_prompt_too():
    """Prompt and text are prepared together when both are switched on, and spans still point into the text."""
    tokenizer = _tokenizer(document_prompt="  Date: ", strip=True, lowercase=True, skiplist=())
    text = " FILE  "
    (tokens,) = tokenizer.documents([text])
    assert [tokenizer.token(i) for i in tokens.ids[2:-1]] == ["date", ":", "file"]
    assert tokens.spans[2] is None
    assert text[slice(*tokens.spans[4])] == "FILE"


@pytest.mark.parametrize("length", [0, 33, True])
def test_an_impossible_expansion_length_is_refused(length):
    """The spec is refused when queries would be filled beyond their own limit."""
    with pytest.raises(InvalidModel, match="expansion_length"):
        replace(SPEC, expansion_length=length)


def test_sixteen_threads_share_one_tokenizer():
    """Sixteen threads get the single-threaded ids when they share a tokenizer."""
    tokenizer = _tokenizer()
    texts = [f"which is number {i} of the list [MASK] é" for i in range(64)]
    alone = [t.ids.tolist() for t in tokenizer.documents(texts)]
    with ThreadPoolExecutor(16) as pool:
        results = list(pool.map(lambda _: [t.ids.tolist() for t in tokenizer.documents(texts)], range(64)))
    assert all(ids == alone for ids in results)


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
