"""Adapters: an index as a store and as a retriever, and MaxSim as a reranker, in frameworks for applications.

    langchain     ColBERTVectorStore, ColBERTRetriever, ColBERTReranker     extra `langchain`
    llamaindex    ColBERTIndex, ColBERTRetriever, ColBERTReranker           extra `llamaindex`
    haystack      ColBERTDocumentStore, ColBERTRetriever, ColBERTRanker     extra `haystack`
    stores        what the three stores share

Nothing in refcolbert imports an adapter.
All names in its `__all__` are public. The adapters translate arguments and results and compute nothing: scores, order
and errors are the same as of `Index.search` and `rerank`. Importing an adapter without its framework raises
`MissingDependency`.
"""
