"""Cases of encoding: the frame around token ids, and the vectors of texts.

`Encoder` is an object or class with `queries(texts)` and `documents(texts)`, which return one array [n, dim] per text.
The cases about ids also need `tokens(text, side)`, which returns the ids and which rows are kept, and `frame(side)`, a
dictionary with length, prefix, suffix, expansion (an id or None) and skiplist.
"""

import numpy as np
from hypothesis import strategies as st

from .oracle import definition
from .registry import case
from .scoring import plain

IDS = st.lists(st.integers(3, 40), max_size=14)
LENGTHS = st.integers(4, 12)
PREFIX, SUFFIX, MASK = [101, 1], [102], 103
WORDS = ["the", "amber", "square", "scores", "every", "query", "token", "of", "a", "document", "late", "interaction"]
TEXTS = st.lists(st.sampled_from([*WORDS, ",", "!", "?"]), max_size=90).map(" ".join)
SIDES = st.sampled_from(["query", "document"])
AWKWARD = ("", " ", "\t\n", "before\x00after", "?!", "ﬁ İ ß é 汉语 👍🏽", "[MASK] [PAD] [UNK] [SEP]", "a" * 500)


@case("38", "query_ids", body=IDS, length=LENGTHS)
def a_query_is_framed_and_filled(impl, body, length):
    """[CLS] is at 0, the marker at 1, [SEP] before the [MASK] ids, and the length is full. The frame is never cut."""
    ids = plain(impl.query_ids(body, PREFIX, SUFFIX, length, MASK))
    assert len(ids) == length
    assert ids[:2] == PREFIX
    assert ids[: ids.index(102) + 1] == PREFIX + body[: length - 3] + SUFFIX
    assert set(ids[ids.index(102) + 1 :]) <= {MASK}


@case("38", "query_ids", body=IDS, length=LENGTHS)
def without_expansion_a_query_ends_at_its_suffix(impl, body, length):
    """Without an expansion id nothing follows the suffix."""
    assert plain(impl.query_ids(body, PREFIX, SUFFIX, length, None)) == PREFIX + body[: length - 3] + SUFFIX


@case("38", "document_ids", body=IDS, length=LENGTHS)
def a_document_is_framed_and_cut(impl, body, length):
    """The marker is at 1, [SEP] is last, there are at most `length` tokens and no [MASK] ids."""
    assert plain(impl.document_ids(body, PREFIX, SUFFIX, length)) == PREFIX + body[: length - 3] + SUFFIX


@case("40", "query_ids", "document_ids", equation="1.2", body=IDS, length=LENGTHS)
def what_is_cut_is_the_end(impl, body, length):
    """The body of a cut text is the beginning of the body of the whole text."""
    for ids in (impl.document_ids(body, PREFIX, SUFFIX, length), impl.query_ids(body, PREFIX, SUFFIX, length, None)):
        inside = plain(ids)[2:-1]
        assert inside == body[: len(inside)]
        assert len(inside) == min(len(body), length - 3)


@case("42", "kept", ids=IDS, skiplist=st.sets(st.integers(3, 40), max_size=6))
def the_filter_drops_exactly_the_skiplist(impl, ids, skiplist):
    """A row is kept unless its id is in the skiplist."""
    assert [bool(k) for k in impl.kept(ids, skiplist)] == [token not in skiplist for token in ids]


@case("38", "attention", n=st.integers(1, 9), extra=st.integers(0, 5), attended=st.booleans())
def expansion_is_attended_only_where_trained_so(impl, n, extra, attended):
    """The tokens before the expansion are attended to always, the expansion only if the model was trained so."""
    assert [bool(a) for a in impl.attention(n, n + extra, attended)] == [True] * n + [attended] * extra


# ---- an encoder of texts


@case("38", "Encoder", "Encoder.tokens", "Encoder.frame", equation="1.1", text=TEXTS)
def a_text_is_framed_and_cut(impl, text):
    """The ids of a text have the prefix, suffix and length of its side; a query is filled with the expansion."""
    for side in ("query", "document"):
        frame, (ids, _) = impl.Encoder.frame(side), impl.Encoder.tokens(text, side)
        ids, before, after = plain(ids), list(frame["prefix"]), list(frame["suffix"])
        fill = frame["expansion"] if side == "query" else None
        own = ids
        while fill is not None and len(own) > len(before) + len(after) and own[-1] == fill:
            own = own[:-1]
        assert own[: len(before)] == before
        assert own[len(own) - len(after) :] == after
        assert len(ids) == frame["length"] if fill is not None else len(ids) <= frame["length"]


@case("40", "Encoder", "Encoder.tokens", "Encoder.frame", equation="1.2", text=TEXTS, more=TEXTS, side=SIDES)
def a_longer_text_begins_alike(impl, text, more, side):
    """The body of a text is the beginning of the body of the same text with more words after it."""
    frame = impl.Encoder.frame(side)
    skip, room = len(frame["prefix"]), frame["length"] - len(frame["prefix"]) - len(frame["suffix"])
    short, long = (plain(impl.Encoder.tokens(t, side)[0])[skip : skip + room] for t in (text, f"{text} {more}"))
    n = next((i for i, token in enumerate(short) if token in frame["suffix"]), len(short))
    assert long[:n] == short[:n]


@case("42", "Encoder", "Encoder.tokens", "Encoder.frame", equation="1.4", text=TEXTS)
def punctuation_rows_of_documents_are_dropped(impl, text):
    """The rows of a text are those whose id is not in the skiplist of its side."""
    for side in ("query", "document"):
        ids, keeps = impl.Encoder.tokens(text, side)
        assert [bool(k) for k in keeps] == definition.kept(plain(ids), set(impl.Encoder.frame(side)["skiplist"]))
    rows = impl.Encoder.documents([text])[0]
    assert len(rows) == sum(bool(k) for k in impl.Encoder.tokens(text, "document")[1])
    assert len(impl.Encoder.queries([text])[0]) == sum(bool(k) for k in impl.Encoder.tokens(text, "query")[1])


@case(
    "39",
    "Encoder",
    equation="1",
    texts=st.lists(TEXTS, min_size=1, max_size=5),
    heavy=True,
    examples=[{"texts": [" ".join(WORDS), WORDS[0]]}],
)
def a_batch_gives_what_each_text_gives_alone(impl, texts):
    """A batch gives the arrays of its texts in order, to 1e-4, because a batch may round differently."""
    for encode in (impl.Encoder.queries, impl.Encoder.documents):
        together = encode(texts)
        assert len(together) == len(texts)
        for text, rows in zip(texts, together, strict=True):
            (alone,) = encode([text])
            assert np.shape(alone) == np.shape(rows)
            assert np.abs(np.asarray(alone) - rows).max(initial=0) <= 1e-4


@case("44", "Encoder", equation="1", texts=st.lists(TEXTS, min_size=2, max_size=4), heavy=True)
def padding_changes_no_vector(impl, texts):
    """A short text in a batch with a long one has the vectors that it has alone: cosine at least 1 - 1e-6."""
    short, long = texts[0], " ".join(WORDS * 5)
    for encode in (impl.Encoder.queries, impl.Encoder.documents):
        beside, alone = np.asarray(encode([short, long])[0], np.float64), np.asarray(encode([short])[0], np.float64)
        assert beside.shape == alone.shape
        norms = np.linalg.norm(beside, axis=1) * np.linalg.norm(alone, axis=1)
        assert (np.sum(beside * alone, axis=1) >= (1 - 1e-6) * norms).all()


@case("41", "Encoder", equation="1", text=st.one_of(st.text(max_size=40), st.sampled_from(AWKWARD)))
def any_text_is_encoded(impl, text):
    """An empty or blank text, NUL, emoji and the names of special tokens give a matrix of finite numbers."""
    for encode in (impl.Encoder.queries, impl.Encoder.documents):
        (rows,) = encode([text])
        assert np.ndim(rows) == 2
        assert np.isfinite(rows).all()


@case("43", "Encoder", equation="2.4", text=TEXTS)
def vectors_have_norm_one(impl, text):
    """Every row is float32 and has norm 1 to 4e-6."""
    for encode in (impl.Encoder.queries, impl.Encoder.documents):
        (rows,) = encode([text])
        assert np.asarray(rows).dtype == np.float32
        assert np.abs(np.linalg.norm(np.asarray(rows, np.float64), axis=1) - 1).max(initial=0) <= 4e-6


@case("45", "Encoder", equation="1", text=TEXTS)
def encoding_again_gives_the_same_bits(impl, text):
    """A text that is encoded twice has the same bits."""
    for encode in (impl.Encoder.queries, impl.Encoder.documents):
        assert np.asarray(encode([text])[0]).tobytes() == np.asarray(encode([text])[0]).tobytes()
