"""Passages hold every word, overlap by the given number of words, and fit the model."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from refcolbert import Document
from refcolbert.corpus.passages import split, word_spans
from refcolbert.errors import InvalidInput

WORDS = [f"w{i}" for i in range(12)]


def texts(text, *args, **kwargs):
    """The texts of a document's passages."""
    return [d.text for d in split([Document(id="d", text=text)], *args, **kwargs)]


@pytest.mark.parametrize(
    ("n_words", "length", "overlap", "expected"),
    [
        (5, 5, 0, ["w0 w1 w2 w3 w4"]),
        (6, 5, 0, ["w0 w1 w2 w3 w4", "w5"]),
        (6, 5, 2, ["w0 w1 w2 w3 w4", "w3 w4 w5"]),
        (6, 5, None, ["w0 w1 w2 w3 w4", "w4 w5"]),
        (8, 3, 1, ["w0 w1 w2", "w2 w3 w4", "w4 w5 w6", "w6 w7"]),
        (7, 3, 1, ["w0 w1 w2", "w2 w3 w4", "w4 w5 w6"]),
        (4, 3, 2, ["w0 w1 w2", "w1 w2 w3"]),
        (3, 1, 0, ["w0", "w1", "w2"]),
        (0, 3, 0, [""]),
    ],
)
def test_passages_have_the_given_length_and_overlap(n_words, length, overlap, expected):
    """Windows have `length` words; the last one ends with the text."""
    assert texts(" ".join(WORDS[:n_words]), length, overlap) == expected


def test_a_passage_is_a_document_that_names_its_own():
    """Id, metadata and title go with every passage; a document that is short enough stays itself."""
    long = Document(id="d", text="My title a b c d", metadata={"title": "My title", "year": 3})
    short = Document(id="s", text="a b")
    shared = {"title": "My title", "year": 3, "passage_of": "d"}
    assert list(split([long, short], 4, 1)) == [
        Document(id="d@0", text="My title a b", metadata=shared),
        Document(id="d@1", text="My title b c", metadata=shared),
        Document(id="d@2", text="My title c d", metadata=shared),
        short,
    ]


def test_the_passages_of_a_section_stay_with_its_document():
    """A passage of a passage keeps the first document, and its id has both parts."""
    section = Document(id="a.md#x", text="a b c", metadata={"passage_of": "a.md"})
    assert [(d.id, d.metadata["passage_of"]) for d in split([section], 2, 0)] == [
        ("a.md#x@0", "a.md"),
        ("a.md#x@1", "a.md"),
    ]


def test_a_title_as_long_as_a_passage_is_not_repeated():
    """It is read once, as part of the text."""
    document = Document(id="d", text="a long title x y", metadata={"title": "a long title"})
    assert [d.text for d in split([document], 3, 0)] == ["a long title", "x y"]


def test_white_space_inside_a_passage_stays():
    """White space is dropped only between two passages."""
    assert texts("a\n\nb  c\td", 3, 1) == ["a\n\nb  c", "c\td"]


def test_scripts_without_spaces_are_cut_between_characters():
    """A Chinese or Japanese character is a word, and a word of more than 40 characters is several."""
    assert texts("\u65e5\u672c\u8a9e abc", 2, 0) == ["\u65e5\u672c", "\u8a9e abc"]
    assert [end - start for start, end in word_spans("x" * 90)] == [40, 40, 10]


@pytest.mark.parametrize("remembered", [2, 100])
def test_the_length_of_a_word_is_asked_once(monkeypatch, remembered):
    """A word that came before is not measured again while it is remembered, and passages are the same."""
    monkeypatch.setattr("refcolbert.corpus.passages.REMEMBERED", remembered)
    asked = []
    documents = [Document(id=str(i), text=f"bb a ccc bb a d{i}") for i in range(3)]
    cut = split(documents, 6, 0, lambda words: [asked.append(word) or len(word) for word in words])
    assert [d.text for d in cut] == [text for i in range(3) for text in ("bb a ccc", f"bb a d{i}")]
    assert asked.count("ccc") == (1 if remembered == 100 else 3)
    assert asked.count("a") <= 3


@given(st.text(max_size=300), st.integers(1, 8), st.data())
def test_no_word_is_lost_and_no_passage_is_too_long(text, length, data):
    """Every word of the text is in a passage, in order; no passage has more than its length."""
    overlap = data.draw(st.integers(0, length - 1))
    cut = texts(text, length, overlap)
    words = [text[start:end] for start, end in word_spans(text)]
    passages = [[part[start:end] for start, end in word_spans(part)] for part in cut]
    assert all(len(part) <= length for part in passages)
    fresh = [word for i, part in enumerate(passages) for word in (part[overlap:] if i else part)]
    assert fresh == words


def test_equal_documents_give_equal_passages():
    """Ids and texts are the same at every call."""
    document = Document(id="d", text=" ".join(WORDS))
    assert list(split([document], 5)) == list(split([document], 5))


@given(
    st.lists(
        st.sampled_from(["cat", "dates,", "unbelievable-words", "\u4e2d\u6587", "caf\u00e9", "x" * 60, "."]),
        max_size=60,
    )
)
def test_passages_in_tokens_are_read_to_their_end(encoder, words):
    """No passage has more tokens than the model reads of a text."""
    tokenizer = encoder.tokenizer
    frame = len(tokenizer.spec.document_prefix_ids) + len(tokenizer.spec.document_suffix_ids)
    for passage in split([Document(id="d", text=" ".join(words))], 12, lengths=tokenizer.lengths):
        (whole,) = tokenizer.documents([passage.text])
        assert len(whole.ids) - frame <= 12 or len(word_spans(passage.text)) == 1


def test_the_models_length_is_filled_and_not_exceeded(encoder):
    """A text of one word more than the model reads becomes two passages; the first is as long as the model reads."""
    tokenizer = encoder.tokenizer
    (each,) = tokenizer.lengths(["cat"])
    most = tokenizer.document_room // each
    document = Document(id="d", text=" ".join(["cat"] * (most + 1)))
    passages = [d.text for d in split([document], tokenizer.document_room, 0, tokenizer.lengths)]
    assert [len(text.split()) for text in passages] == [most, 1]
    assert len(tokenizer.documents([passages[0]])[0].ids) > tokenizer.spec.document_length - each


@pytest.mark.parametrize(("length", "overlap"), [(0, 0), (-1, None), (5, 5), (5, -1), (5, 6), (1, 1)])
def test_an_overlap_that_leaves_nothing_new_is_refused(length, overlap):
    """An overlap that is not below the length, and a length below one word, are refused."""
    with pytest.raises(InvalidInput, match=r"overlap|passage length"):
        list(split([], length, overlap))
