"""A score, explained: which document token answered which query token.

Read in this order:

    alignment    Match: one query token and its document token; the same by words of the two texts
    explanation  LabelledVectors, twice -> Explanation: all matches, words and text pieces of one score
    html         an explanation as HTML, for notebooks
    heatmap      an explanation as a matplotlib drawing

May import: the engine, `Span` of encoding, arrays, errors. `refcolbert.Explanation` and `refcolbert.Match` are public;
`explain` and everything else here may change in any release.
"""
