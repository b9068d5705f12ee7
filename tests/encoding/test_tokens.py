"""Text to tokens, against the tokenizer's own ids and offsets and the definition's framing."""

import json
from dataclasses import replace
from pathlib import Path
from unittest import mock

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from tokenizers import Tokenizer

from refcolbert import definition
from refcolbert.encoding import tokens
from refcolbert.encoding.spec import EncodingSpec
from refcolbert.encoding.tokens import TextTokenizer
from refcolbert.errors import InvalidModel

TINY = Path(__file__).parents[1] / "models" / "tiny"
JSON = (TINY / "tokenizer.json").read_text()
SPEC = EncodingSpec.from_json((TINY / "encoding.json").read_text())
PLAIN = Tokenizer.from_str(JSON)
WORDS = ["date", "file", "parsing", "Ünï", "İx", "ΑΣ", ",", "[PAD]", "x" * 9, "  ", "\n", "汉字", "ﬁ", "the", "of"]
TEXTS = st.one_of(st.lists(st.sampled_from(WORDS), max_size=40).map(" ".join), st.text(max_size=30))
SPECS = st.builds(
    lambda **changes: replace(SPEC, **changes),
    query_length=st.integers(3, 14),
    document_length=st.integers(3, 14),
    query_prompt=st.sampled_from(["", "Find: ", "  İ "]),
    document_prompt=st.sampled_from(["", "the "]),
    strip=st.booleans(),
    lowercase=st.booleans(),
    expansion_attended=st.booleans(),
    expansion_id=st.sampled_from([None, 0, 6]),
    pad_expands=st.booleans(),
    query_skiplist=st.sampled_from([(), (6,), (4, 40)]),
    marker_second=st.booleans(),
    drop_first=st.booleans(),
)


def expected(spec, text, side):
    """Ids, attention, kept rows and spans, from the uncut tokenization of the prepared text."""
    prompt = getattr(spec, f"{side}_prompt")
    characters = list(enumerate(prompt + text))  # with the place of each
    while spec.strip and characters and characters[0][1].isspace():
        characters = characters[1:]
    while spec.strip and characters and characters[-1][1].isspace():
        characters = characters[:-1]
    full = "".join(c for _, c in characters)
    places = [i for i, c in characters for _ in (c.lower() if spec.lowercase else c)]
    encoding = PLAIN.encode(full.lower() if spec.lowercase else full, add_special_tokens=False)
    spans = []
    for start, end in encoding.offsets:
        first, last = (places[min(p, len(places) - 1)] - len(prompt) for p in (start, max(end - 1, start)))
        spans.append((first, max(last + 1, first)) if first >= 0 else None)
    prefix, suffix = getattr(spec, f"{side}_prefix_ids"), getattr(spec, f"{side}_suffix_ids")
    length, body = getattr(spec, f"{side}_length"), encoding.ids
    room = length - len(prefix) - len(suffix)
    framed = definition.document_ids(body, prefix, suffix, length)
    if side == "query":
        swapped = spec.pad_expands and spec.expansion_id is not None
        body = [spec.expansion_id if swapped and i == spec.pad_id else i for i in body]
        ids = definition.query_ids(body, prefix, suffix, length, spec.expansion_id)
        kept, attended = definition.kept(ids, spec.query_skiplist), spec.expansion_attended
    else:
        ids, attended = framed, True
        kept = definition.kept(ids, spec.skiplist)
    spans = [None] * len(prefix) + spans[:room] + [None] * (len(ids) - len(prefix) - len(spans[:room]))
    attention = definition.attention(len(framed), len(ids), attended)
    if spec.marker_second:
        ids, attention, kept, spans = ([*row[:2][::-1], *row[2:]] for row in (ids, attention, kept, spans))
    if spec.drop_first:
        kept = [False, *kept[1:]][: len(kept)]
    return ids, attention, kept, spans


def found(made):
    """The same four of a `Tokens`."""
    return made.ids.tolist(), made.attention.tolist(), made.keep.tolist(), list(made.spans)


@given(SPECS, st.lists(TEXTS, min_size=1, max_size=3))
@example(replace(SPEC, lowercase=True, strip=True), ["  İstanbul date  "])
@example(replace(SPEC, expansion_id=0, pad_expands=True, pad_id=PLAIN.token_to_id("date")), ["the date"])
@example(replace(SPEC, expansion_id=None, query_prefix_ids=(), query_suffix_ids=()), ["", "date"])
@example(replace(SPEC, query_length=3, document_length=3), ["date file"])
def test_tokens_are_those_of_the_definition(spec, texts):
    """Ids, attention, kept rows and spans follow from the tokenizer's own ids, alone and in a batch (38-40, 42)."""
    tokenizer = TextTokenizer(JSON, spec)
    for side, method in (("query", tokenizer.queries), ("document", tokenizer.documents)):
        for text, made in zip(texts, method(texts), strict=True):
            assert found(made) == expected(spec, text, side), (side, text)
            assert found(method([text])[0]) == found(made)


@given(
    st.lists(st.sampled_from([*WORDS, " " * 30, "y" * 20, "date" * 6]), max_size=60).map(" ".join), st.integers(3, 9)
)
@example(" " * 200 + "date file the of", 6)
@example("abcdefgh" * 12 + " date file", 5)
@example("abcdefgh" * 13 + " date file", 5)  # too long a word to be cut into pieces
def test_a_long_text_is_cut_without_being_read(text, length):
    """The beginning of a text gives the same tokens as the whole text, wherever words end (40)."""
    spec = replace(SPEC, document_length=length, query_length=length)
    with mock.patch.object(tokens, "CHARACTERS_PER_TOKEN", 1), mock.patch.object(tokens, "CUT_MARGIN", 24):
        (made,) = TextTokenizer(JSON, spec).documents([text])
        assert found(made) == expected(spec, text, "document")


def test_only_the_beginning_of_a_long_text_is_tokenized():
    """A text of a megabyte costs a few thousand characters, more only where those give too few tokens."""
    tokenizer = TextTokenizer(JSON, SPEC)
    with mock.patch.object(tokenizer, "_tokenizer", wraps=tokenizer._tokenizer) as spy:
        tokenizer.documents(["date file " * 100_000])
        assert [len(t) for call in spy.encode_batch.call_args_list for t in call.args[0]] == [61 * 16 + 128]
        spy.encode_batch.reset_mock()
        tokenizer.documents([" " * 2_000 + "date " * 99])
        lengths = [len(t) for call in spy.encode_batch.call_args_list for t in call.args[0]]
        assert lengths == [61 * 16 + 128, 2_000 + 5 * 99]


def test_no_more_is_read_than_is_needed():
    """No second window is tokenized when the first one has as many certain tokens as are kept."""
    tokenizer = TextTokenizer(JSON, replace(SPEC, document_length=3 + 4))
    with mock.patch.object(tokens, "CHARACTERS_PER_TOKEN", 5), mock.patch.object(tokens, "CUT_MARGIN", 0):
        with mock.patch.object(tokenizer, "_tokenizer", wraps=tokenizer._tokenizer) as spy:
            tokenizer.documents(["date file list date file list"])
        assert [call.args[0] for call in spy.encode_batch.call_args_list] == [["date file list date "]]


def test_words_at_the_cut_are_not_trusted():
    """Tokens of a word that reaches over the border are not counted as certain, nor anything behind it."""
    encoding = PLAIN.encode("date parsing files", add_special_tokens=False)
    ends = [end for _, end in encoding.offsets]
    assert tokens._certain(encoding, 18) == len(ends)
    assert tokens._certain(encoding, 12) == sum(end <= 12 for end in ends)
    assert tokens._certain(encoding, 8) == 1  # inside "parsing"
    assert tokens._certain(encoding, 3) == 0
    assert tokens._certain(PLAIN.encode("parsing", add_special_tokens=False), 5) == 0


def test_settings_of_the_file_are_not_used():
    """Truncation and padding in tokenizer.json change nothing."""
    described = json.loads(JSON)
    described["truncation"] = {"direction": "Right", "max_length": 4, "strategy": "LongestFirst", "stride": 0}
    described["padding"] = {
        "strategy": {"Fixed": 40},
        "direction": "Right",
        "pad_to_multiple_of": None,
        "pad_id": 0,
        "pad_type_id": 0,
        "pad_token": "[PAD]",
    }
    texts = ["date file list string date file list", "date"]
    made = TextTokenizer(json.dumps(described), SPEC).documents(texts)
    assert [found(m) for m in made] == [found(m) for m in TextTokenizer(JSON, SPEC).documents(texts)]


def test_arrays_have_their_types():
    """Ids are int64, attention and kept rows bool, with one span per token."""
    (made,) = TextTokenizer(JSON, SPEC).queries(["date"])
    assert (made.ids.dtype, made.attention.dtype, made.keep.dtype) == (np.int64, np.bool_, np.bool_)
    assert len(made.ids) == len(made.attention) == len(made.keep) == len(made.spans) == 32


def test_vocabulary_counts_added_tokens():
    """The size holds added tokens, and an id has its spelling."""
    described = json.loads(JSON)
    new = {**described["added_tokens"][0], "id": len(described["model"]["vocab"]), "content": "[NEW]"}
    described["added_tokens"].append(new)
    tokenizer = TextTokenizer(json.dumps(described), SPEC)
    assert tokenizer.vocabulary_size == len(described["model"]["vocab"]) + 1
    assert tokenizer.token(new["id"]) == "[NEW]"
    assert tokenizer.token(4) == "[CLS]"


def test_an_unreadable_tokenizer_is_an_invalid_model():
    """A file that the tokenizers package cannot read is an InvalidModel with its name."""
    with pytest.raises(InvalidModel, match=r"tokenizer\.json cannot be read"):
        TextTokenizer("{}", SPEC)
