"""Faults in framing, cutting, filtering and normalization."""

import numpy as np

from ..complete import Encoder, Replayed
from ..oracle import definition
from .faults import fault


@fault("38", "query_ids")
def marker_at_0(body, prefix, suffix, length, expansion):
    """The marker comes before [CLS]."""
    return definition.query_ids(body, prefix[::-1], suffix, length, expansion)


@fault("38", "document_ids")
def sep_cut_off(body, prefix, suffix, length):
    """The text is framed first and cut afterwards, so a long document loses its [SEP]."""
    return (prefix + list(body) + suffix)[:length]


@fault("38", "query_ids")
def mask_before_sep(body, prefix, suffix, length, expansion):
    """[SEP] follows the expansion instead of the text."""
    if expansion is None:
        return definition.query_ids(body, prefix, suffix, length, expansion)
    filled = list(body) + [expansion] * length
    return definition.query_ids(filled, prefix, suffix, length, expansion)


@fault("38", "query_ids")
def query_not_filled(body, prefix, suffix, length, expansion):
    """The query has no [MASK] expansion."""
    return definition.query_ids(body, prefix, suffix, length, None)


@fault("38", "attention")
def expansion_always_attended(n_framed, length, expansion_attended):
    """The other tokens attend to [MASK] even if the model was trained otherwise."""
    return [True] * length


@fault("40", "document_ids")
def beginning_cut_off(body, prefix, suffix, length):
    """A long text loses its beginning instead of its end."""
    return definition.document_ids(list(body)[::-1], prefix, suffix, length)


@fault("42", "kept")
def filter_inverted(ids, skiplist):
    """Only punctuation is kept."""
    return [token in skiplist for token in ids]


def encoder_fault(invariant, **changes):
    """Register a subclass of the toy encoder."""

    def register(what, name):
        broken = type(name, (Encoder,), {**changes, "__doc__": what, "__name__": name})()
        return fault(invariant, "Encoder")(broken)

    return register


def queries_filtered(self, text, side):
    """The ids and the kept rows, with queries filtered too."""
    ids, _ = Encoder.tokens(self, text, side)
    return ids, definition.kept(ids, set(self.punctuation))


encoder_fault("42", tokens=queries_filtered)("Punctuation is dropped from queries too.", "skiplist_on_queries")
encoder_fault("39", documents=lambda self, texts: Encoder.documents(self, sorted(texts, key=len)))(
    "Texts are sorted by length and their order is not restored.", "order_not_restored"
)
encoder_fault(
    "44", queries=lambda self, texts: [e + 1e-2 * len(max(texts, key=len)) for e in Encoder.queries(self, texts)]
)("Padding leaks into the vectors.", "padding_attended")
encoder_fault(
    "41", documents=lambda self, texts: [Encoder.encode(self, t, "document") if t.strip() else [][0] for t in texts]
)("A blank text is an IndexError.", "blank_text_fails")
encoder_fault("43", vector=lambda self, token, place: 2 * Encoder.vector(self, token, place))(
    "Rows are not normalized.", "rows_not_normalized"
)
encoder_fault(
    "45", vector=lambda self, token, place: Encoder.vector(self, token, np.random.default_rng().integers(99))
)("Dropout is left on.", "dropout_left_on")


def cut_short(self, text, side):
    """The ids and the kept rows without the last token."""
    ids, kept = Encoder.tokens(self, text, side)
    return ids[:-1], kept[:-1]


encoder_fault("38", tokens=cut_short)("The last token of every text is lost.", "wrong_length")


@fault("46", "encoder_of")
def weights_rounded_in_silence(checkpoint):
    """A float32 model runs in 8 bits without a notice."""
    rounded = Replayed(checkpoint.parent)
    rounded.held = lambda texts, side: [np.round(rows * 127) / 127 for rows in Replayed.held(rounded, texts, side)]
    return rounded


@fault("46", "encoder_of")
def padding_rows_kept(checkpoint):
    """Every text of a batch gets as many rows as the longest one."""
    padded = Replayed(checkpoint.parent)

    def held(texts, side):
        vectors = Replayed.held(padded, texts, side)
        most = max(map(len, vectors))
        return [np.pad(rows, [(0, most - len(rows)), (0, 0)]) for rows in vectors]

    padded.held = held
    return padded


@fault("46", "encoder_of")
def suffix_without_a_row(checkpoint):
    """[SEP] is treated as padding and has no row."""
    short = Replayed(checkpoint.parent)
    short.held = lambda texts, side: [rows[:-1] for rows in Replayed.held(short, texts, side)]
    return short
