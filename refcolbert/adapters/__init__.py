"""Adapters: an index as a retriever, MaxSim as a reranker, in the frameworks that applications are built with.

    langchain     ColBERTRetriever, ColBERTReranker     extra `langchain`
    llamaindex    ColBERTRetriever, ColBERTReranker     extra `llamaindex`
    haystack      ColBERTRetriever, ColBERTRanker       extra `haystack`

Nothing else in refcolbert imports them, and importing one whose framework is not installed is `MissingDependency`. They
translate arguments and answers and compute nothing: scores, order and errors are those of `Index.search` and `rerank`.
"""
