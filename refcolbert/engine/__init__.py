"""Vectors -> codes -> inverted lists -> search: NumPy alone, no input or output.

Read in this order:

    ragged                many documents' token vectors in one array
    topk                  the one total order: score descending, then position ascending
    maxsim                exact MaxSim, its error bound in float32, and the canonical score
    pooling               fewer vectors per document
    kmeans                centroids
    codec                 vector -> centroid + n-bit residual, and similarities without decoding
    ivf                   inverted lists: which documents have a token in which cell
    centroid_interaction  MaxSim with centroids in place of vectors, in bytes
    segments              the arrays that are searched
    search                the stages, one after the other

May import: arrays, checks, errors. `refcolbert.Ragged` and `refcolbert.maxsim` are public; everything else here
may change in any release.
"""
