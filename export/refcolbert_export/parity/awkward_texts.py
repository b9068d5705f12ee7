"""The awkward texts on which an export must agree with its checkpoint."""

import string
from collections.abc import Sequence

from tokenizers import Tokenizer

from refcolbert.encoding.spec import EncodingSpec

__all__ = ["FIXED", "awkward_texts"]

FIXED = {
    "plain": "what color is amber urine",
    "empty": "",
    "blank": " \t\n ",
    "surrounded by space": "  space on both sides\n",
    "one letter": "a",
    "mixed case": "The HTTP/2 Server of ACME Inc., New York",
    "punctuation only": "?!... ()[]{} --- ''",
    "every ASCII mark": "! \" # $ % & ' ( ) * + , - . / : ; < = > ? @ [ \\ ] ^ _ ` { | } ~",
    "marks in words": "e.g. state-of-the-art, don't; f(x)=x^2 @home #1 50%",
    "NUL": "before\x00after",
    "control characters": "a\x01b\x7fc\u200bd\ufeffe\u202ef",
    "replacement": "caf\ufffd",
    "accents": "Café naïve ÅNGSTRÖM e\u0301tude Ŀ İstanbul ẞ",
    "Greek, Cyrillic": "Ελληνικά Русский язык",
    "Arabic, Hebrew": "العربية עברית",
    "Chinese, Japanese, Korean": "汉语 日本語のテキスト 한국어",
    "Devanagari, Thai": "हिन्दी ภาษาไทย",
    "emoji": "👩‍👩‍👧‍👦 🏳️‍🌈 👍🏽",
    "mathematics": "∑ x² ≤ ∞ → ½ ﬁ Ⅷ",
    "line breaks": "one\ntwo\r\nthree\tfour\u2028five",
    "code": "def f(x): return [i**2 for i in range(x)]  # squares",
    "numbers": "3.14159 1,000,000 2024-11-23 192.168.0.1",
    "long word": "pneumono" * 40,
    "long": " ".join(f"sentence {i} of {i * 37 % 101} says that item {i * i % 997} follows." for i in range(900)),
    "long repetition": "late interaction scores every query token against every document token. " * 400,
    "long without spaces": "x" * 5000,
}

# Some vocabularies add hundreds of tokens that nobody uses.
MAX_ADDED_TOKENS = 100


def awkward_texts(spec: EncodingSpec, tokenizer: Tokenizer, words: Sequence[str] = ()) -> dict[str, str]:
    """The fixed texts, and texts that are awkward for this model: special tokens, markers, skipped tokens.

    `words` are named in the checkpoint's settings. Each text holds few, so that no length limit hides one.
    """
    ids = {*spec.query_prefix_ids, *spec.document_prefix_ids, *spec.query_suffix_ids, spec.pad_id}
    ids |= {spec.expansion_id} if spec.expansion_id is not None else set()
    ids |= set(sorted(tokenizer.get_added_tokens_decoder())[:MAX_ADDED_TOKENS])
    texts = dict(FIXED)
    for token_id in sorted(ids):
        texts[f"literal id {token_id}"] = f"{tokenizer.id_to_token(token_id)} and {tokenizer.id_to_token(token_id)}x"
    for word in dict.fromkeys((*string.punctuation, *words)):
        texts[f"word {word!r}"] = f"{word} a{word}"
    for name, prompt in (("query", spec.query_prompt), ("document", spec.document_prompt)):
        if prompt:
            texts[f"literal {name} prompt"] = f"{prompt}{prompt}text"
    return {**texts, **_around(spec.query_length), **_around(spec.document_length)}


def _around(length: int) -> dict[str, str]:
    """Texts of one-letter words, with lengths around a limit."""
    return {f"{n} words": " ".join("ab"[i % 2] for i in range(n)) for n in range(max(length - 5, 1), length + 2)}
