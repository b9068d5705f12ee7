"""Adapters: an index as a retriever, and MaxSim as a reranker, in frameworks for applications.

    langchain     ColBERTRetriever, ColBERTReranker     extra `langchain`
    llamaindex    ColBERTRetriever, ColBERTReranker     extra `llamaindex`
    haystack      ColBERTRetriever, ColBERTRanker       extra `haystack`

Each module can be read alone. It may import encoding, errors, hits, index and rerank; nothing in refcolbert imports it.
All names in its `__all__` are public. The adapters translate arguments and results and compute nothing: scores, order
and errors are the same as of `Index.search` and `rerank`. Importing an adapter without its framework raises
`MissingDependency`.
"""
