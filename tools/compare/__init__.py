"""The interaction spectrum, measured: BM25, bi-encoder, ColBERT, cross-encoder on judged collections, one command."""
