"""Vectors -> codes -> inverted lists -> search, and the same for words: NumPy alone, no input or output.

Read in this order:

    ragged                many documents' token vectors in one array
    topk                  the order of results: score descending, then position ascending
    maxsim                exact MaxSim, its error bound in float32, and the canonical score
    pooling               fewer vectors per document
    kmeans                centroids
    codec                 vector -> centroid + n-bit residual, and similarities without decoding
    ivf                   inverted lists: which documents have a token in which cell
    centroid_interaction  MaxSim with centroids in place of vectors, on similarities rounded to bytes
    terms                 inverted lists of words: which documents have a term, and how often
    segments              the arrays that are searched
    candidates            the stages that choose which documents are ranked: cells, candidates, prune, refine
    ranking               the last stage: exact MaxSim, and the order of the answer
    search                all stages, one after the other, and their options
    bm25                  the score by the words that query and document share
    hybrid                search by words, and by words and vectors together
    threads               a `map` that shares the chunks of one search among threads
    trace                 for each stage, the amount it read, the amount it kept, its time

May import: arrays, checks, errors. `refcolbert.Ragged` and `refcolbert.maxsim` are public; everything else here
may change in any release.
"""
