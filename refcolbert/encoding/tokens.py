"""Text -> token ids, attention and the rows to keep, by the rules of an `EncodingSpec`.

Truncation and expansion are done here, on ids. The `tokenizers` object could do both by its settings, but threads share
it: its settings never change after loading.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from tokenizers import Encoding, Tokenizer

from ..arrays import Bools, Ints
from ..errors import InvalidModel
from .spec import EncodingSpec

__all__ = ["TextTokenizer", "Tokens"]

Span = tuple[int, int] | None

# A long text is cut before it is tokenized: this many characters per token that the model reads, four times as many if
# they are not enough, and so on.
CHARACTERS_PER_TOKEN = 16
# Tokens that end this many characters before the cut or later may be wrong: the text after the cut could change them.
# No added token and no rule of a pre-tokenizer looks further ahead.
CUT_MARGIN = 128


@dataclass(frozen=True, slots=True, eq=False)
class Tokens:
    """One text as the model sees it, never padded to a batch."""

    ids: Ints  # [n]
    attention: Bools  # [n] False only for expansion tokens that others may not attend to
    keep: Bools  # [n] True where the vector is returned
    spans: tuple[Span, ...]  # n, (start, end) in the caller's text, None for markers and expansion
    n_expansion: int = 0  # number of tokens at the end that are expansion


class TextTokenizer:
    """The tokenizer of one model: a `tokenizer.json` and the spec with the rules for its use."""

    def __init__(self, tokenizer_json: str, spec: EncodingSpec) -> None:
        try:
            self._tokenizer: Tokenizer = Tokenizer.from_str(tokenizer_json)
        except Exception as error:
            raise InvalidModel(f"tokenizer.json cannot be read: {error}; export the model again") from error
        # The file may set both. They would cut and fill without regard to markers.
        self._tokenizer.no_truncation()
        self._tokenizer.no_padding()
        self.spec = spec
        self._skiplist = np.array(spec.skiplist, dtype=np.int64)  # [n_skip] ascending
        self._query_skiplist = np.array(spec.query_skiplist, dtype=np.int64)  # [n_skip] ascending

    @property
    def vocabulary_size(self) -> int:
        """The number of token ids, added tokens included."""
        return int(self._tokenizer.get_vocab_size(with_added_tokens=True))

    def token(self, token_id: int) -> str:
        """Return the vocabulary's spelling of an id."""
        return str(self._tokenizer.id_to_token(int(token_id)))

    def queries(self, texts: Sequence[str]) -> list[Tokens]:
        """Return prefix + body + suffix (+ expansion up to `expansion_length`) of each query (ColBERT, section 3.2).

        All rows are kept, unless the spec has a query skiplist.
        """
        spec = self.spec
        prefix, suffix = spec.query_prefix_ids, spec.query_suffix_ids
        bodies = self._bodies(texts, spec.query_prompt, spec.query_length - len(prefix) - len(suffix))
        target = (spec.expansion_length or spec.query_length) if spec.expansion_id is not None else 0
        out = []
        for body, spans in bodies:
            framed = [*prefix, *(self._expanded(i) for i in body), *suffix]
            fill = max(target - len(framed), 0)
            places = [*[None] * len(prefix), *spans, *[None] * (len(suffix) + fill)]
            out.append(self._tokens(framed, fill, places, self._query_skiplist))
        return out

    def documents(self, texts: Sequence[str]) -> list[Tokens]:
        """Return prefix + body + suffix of each document; rows of the skiplist are not kept (ColBERT, section 3.2)."""
        spec = self.spec
        prefix, suffix = spec.document_prefix_ids, spec.document_suffix_ids
        bodies = self._bodies(texts, spec.document_prompt, spec.document_length - len(prefix) - len(suffix))
        out = []
        for body, spans in bodies:
            places = [*[None] * len(prefix), *spans, *[None] * len(suffix)]
            out.append(self._tokens([*prefix, *body, *suffix], 0, places, self._skiplist))
        return out

    def _tokens(self, framed: list[int], fill: int, places: list[Span], skiplist: Ints) -> Tokens:
        """Return a framed text with `fill` expansion tokens. `places` has the span of each token."""
        spec = self.spec
        ids = np.array(framed + [spec.expansion_id or 0] * fill, np.int64)  # [n]
        attention = np.ones(len(ids), np.bool_)  # [n]
        attention[len(framed) :] = spec.expansion_attended
        if spec.marker_second:
            ids[:2], attention[:2], places[:2] = ids[:2][::-1].copy(), attention[:2][::-1].copy(), places[:2][::-1]
        keep = ~np.isin(ids, skiplist)  # [n]
        keep[:1] &= not spec.drop_first
        return Tokens(ids, attention, keep, tuple(places), fill)

    @property
    def document_room(self) -> int:
        """The number of tokens of a document's own text that the model reads, after prefix, suffix and prompt."""
        spec = self.spec
        frame = [*spec.document_prefix_ids, *spec.document_suffix_ids]
        return spec.document_length - len(frame) - sum(self.lengths([spec.document_prompt]))

    def lengths(self, words: Sequence[str]) -> list[int]:
        """Return the number of tokens that each word adds to a text.

        That is the larger of two numbers: at the beginning of a text, and after a space.
        """
        unique = list(dict.fromkeys(words))
        texts = [space + self._prepare(word) for space in ("", " ") for word in unique]
        counts = [len(encoding.ids) for encoding in self._tokenizer.encode_batch(texts, add_special_tokens=False)]
        most = {word: max(counts[i], counts[i + len(unique)]) for i, word in enumerate(unique)}
        return [most[word] for word in words]

    def _expanded(self, token_id: int) -> int:
        """Return the id that the model reads for an id of a query's text: `pad_expands` replaces the padding id."""
        spec = self.spec
        replaced = spec.pad_expands and spec.expansion_id is not None and token_id == spec.pad_id
        return spec.expansion_id or 0 if replaced else token_id

    def _bodies(self, texts: Sequence[str], prompt: str, budget: int) -> list[tuple[list[int], list[Span]]]:
        """Return the first `budget` ids of each text without special tokens, and their spans in the caller's text."""
        prepared = [self._prepare(prompt + text) for text in texts]
        encodings = self._encode(prepared, budget, max(budget, 1) * CHARACTERS_PER_TOKEN + CUT_MARGIN)
        out = []
        for text, encoding in zip(texts, encodings, strict=True):
            spans = self._spans(text, encoding.offsets[:budget], prompt)
            out.append((encoding.ids[:budget], spans))
        return out

    def _encode(self, texts: list[str], budget: int, window: int) -> list[Encoding]:
        """Tokenize without special tokens, and of a long text only its first `window` characters.

        A window with fewer than `budget` certain tokens is enlarged: 100 spaces, for example, may give no token.
        """
        encodings: list[Encoding] = self._tokenizer.encode_batch([t[:window] for t in texts], add_special_tokens=False)
        for position, text in enumerate(texts):
            if len(text) > window and _certain(encodings[position], window - CUT_MARGIN) < budget:
                encodings[position] = self._encode([text], budget, 4 * window)[0]
        return encodings

    def _prepare(self, text: str) -> str:
        text = text.strip() if self.spec.strip else text
        return text.lower() if self.spec.lowercase else text

    def _spans(self, text: str, offsets: list[tuple[int, int]], prompt: str) -> list[Span]:
        """Return the spans of `offsets` in the caller's text: undo prompt, strip and a lower() that changes length.

        "İ".lower() has two characters, so every place after it is shifted by one.
        """
        if not (prompt or self.spec.strip or self.spec.lowercase):
            return list(offsets)
        full = prompt + text
        lead = len(full) - len(full.lstrip()) if self.spec.strip else 0
        # places[i] is the place in prompt + text of character i of the prepared text.
        places = list(range(lead, len(full) + 1))
        if self.spec.lowercase and len(full.lower()) != len(full):
            places = [i for i in range(lead, len(full)) for _ in full[i].lower()] + [len(full)]
        return [_place(places, start, end, len(prompt)) for start, end in offsets]


def _place(places: list[int], start: int, end: int, prompt: int) -> Span:
    """Return the span of places[start : end], counted after the prompt; None when it begins inside the prompt."""
    last = len(places) - 1
    first, after = places[min(start, last)] - prompt, places[min(max(end - 1, start), last)] + 1 - prompt
    return (first, max(after, first)) if first >= 0 else None


def _certain(encoding: Encoding, reach: int) -> int:
    """Return the number of leading tokens that no text after character `reach` can change.

    These are the tokens of whole words that end before it. In "date parsing" cut after "pars", the pieces of "pars" are
    not certain: the rest of the word would have merged with them.
    """
    ends = [end for _, end in encoding.offsets]
    words = encoding.word_ids
    count = next((i for i, end in enumerate(ends) if end > reach), len(ends))
    while 0 < count < len(words) and words[count - 1] == words[count]:
        count -= 1
    return count
