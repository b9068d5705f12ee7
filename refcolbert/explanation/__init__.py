"""The explanation of a score: for each query token, the document token that it matched.

Read in this order:

    alignment    Match: one query token and its document token; the same for the words of the two texts
    words        WordMatch: a word that query and document share, and its share of BM25
    explanation  LabelledVectors, twice -> Explanation: all matches, words and text pieces of one score
    html         an explanation as HTML, for notebooks
    heatmap      an explanation as a matplotlib drawing

May import: the engine, `Span` and `WordTokenizer` of encoding, arrays, errors. `refcolbert.Explanation` and
`refcolbert.Match` are public; `explain` and everything else here may change in any release.
"""
