"""The invariants: statement, test, and the wrong implementations that the test has caught."""

from tools import ROOT

from .tables import suite, table

STATEMENTS = {
    "1": "document tokens in any order give the same score",
    "2": "query tokens in any order give the same score",
    "3": "repeated document tokens add nothing",
    "4": "more document tokens never lower the score",
    "5": "a union of tokens takes the larger maximum; documents may be scored in chunks",
    "6": "queries add up",
    "7": "a score is bounded by the norms",
    "8": "a document that holds every query token scores n_q",
    "9": "masked rows are not there, whatever they hold",
    "10": "powers of two scale exactly",
    "11": "rotating both sides changes nothing",
    "12": "a document scores the same in any batch, order and chunk",
    "13": "moving tokens moves the score no further",
    "14": "the score is the definition",
    "15": "zero query rows add 0; no rows have no score",
    "15b": "empty, blank, NUL and over-long texts are encoded",
    "16": "NaN and infinity are refused before anything changes",
    "17": "top-k is the head of a full sort, ties by position",
    "18": "a shorter answer begins the longer",
    "19": "shards merge",
    "20": "packing is a bijection of known bytes",
    "21": "buckets ascend and stay in range",
    "22": "the middle of a bucket falls into it",
    "23": "a decoded vector is off by half a bucket, a score by no more than its tokens",
    "24": "more bits are more exact",
    "25": "the nearest centroid is the first of equals, whatever the numbering",
    "26": "inverted lists hold exactly the documents of a cell",
    "27": "more probes never lose a candidate",
    "28": "probing everything is a full scan; a choice of ids is searched alone",
    "29": "every returned score is true; live, unique, sorted, at most k",
    "30": "k-means never lowers its objective; same seed, same bytes",
    "31": "adding in two calls is adding in one",
    "32": "a deleted document was never there",
    "33": "compaction, reopening and copies change no answer",
    "34": "same inputs, same bytes",
    "35": "a call that fails has changed nothing",
    "36": "a reader keeps its answers",
    "37": "a damaged byte is an error or harmless",
    "38": "queries and documents are framed, filled and cut as the model was trained",
    "39": "a batch gives what each text gives alone, in order",
    "40": "cutting removes the end of a text",
    "41": "any text is encoded or refused",
    "42": "the filter drops exactly the skiplist, of documents alone",
    "43": "vectors have norm one, float32, finite",
    "44": "padding and batch change no vector",
    "45": "encoding again gives the same bits",
    "46": "exported models give the originals' vectors",
    "47": "losses and their gradients are torch's",
    # beyond the definition
    "48": "the order is that of exact scores, however close float32 brings them",
    "49": "a returned score has the same bits whatever else is searched",
    "50": "similarities computed without decoding equal those of the decoded vectors, within their bound",
    "51": "a vector is stored in the same bits whatever is in its batch",
    "52": "threads that share an index get the answers they get one after the other",
    "53": "reading changes no file",
    "54": "an explanation's matches are the maxima that the score adds up",
    "55": "pooled tokens are the means of Ward's clusters",
    "56": "a group answers with its best document",
    "57": "an upsert is a deletion and an addition",
    "58": "a word score is BM25 as the definition states it",
    "59": "the statistics of words are those of all documents in the index, whatever the filter and the segments",
    "60": "a search by words returns the documents with a word of the query, equal scores by position",
    "61": "a similarity is the score per query vector that is not zero",
    "62": "a hybrid search fuses both scores of the best documents by each",
    "63": "a misspelt word counts half as the most frequent word that is one letter apart",
}
# Tests outside the conformance suite, or under another number: file, test, the fault that it has caught.
ELSEWHERE = {
    "15b": ("tests/conformance/texts.py", "any_text_is_encoded", "blank_text_fails"),
}


def invariants() -> str:
    """A line for each invariant."""
    cases, broken = suite()
    rows = []
    for number, statement in STATEMENTS.items():
        if number in ELSEWHERE:
            file, test, caught = ELSEWHERE[number]
            if test not in (ROOT / file).read_text():
                raise ValueError(f"{file} has no {test}")
            rows.append([number, statement, f"`{file}` {test}", caught])
        else:
            mine = list(dict.fromkeys(c.name.split(" (")[0] for c in cases.values() if c.invariant == number))
            faults = sorted(b.name for b in broken.values() if b.invariant == number)
            if not mine or not faults:
                raise ValueError(f"invariant {number} has {mine} and {faults}")
            rows.append([number, statement, "; ".join(mine), ", ".join(faults)])
    return table(["", "invariant", "conformance cases, or test", "rejected"], rows)
