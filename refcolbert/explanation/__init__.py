"""Which document token answered which query token, in words and in pictures.

Read in this order:

    explanation  Explanation and Match: the alignment of one query with one document
    alignment    the same by words of the texts instead of tokens
    html         the same as HTML, for notebooks
    heatmap      the same as a matplotlib drawing

May import: the engine, arrays, errors. `refcolbert.Explanation` and `refcolbert.Match` are public.
"""
