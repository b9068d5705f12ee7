"""LangChain: an index as a retriever, MaxSim as a document compressor (langchain-core, extra `langchain`).

A document has the metadata of its hit, and the score under `score_key`. LangChain has no filter language: `where` is
a filter of refcolbert.
"""

import asyncio
from collections.abc import Sequence
from typing import Any

from ..encoding.encoder import Encoder
from ..errors import InvalidInput, MissingDependency
from ..hits import Hit
from ..reading import IndexReader
from ..rerank import rerank

try:
    from langchain_core.callbacks import (
        AsyncCallbackManagerForRetrieverRun,
        CallbackManagerForRetrieverRun,
        Callbacks,
    )
    from langchain_core.documents import BaseDocumentCompressor, Document
    from langchain_core.retrievers import BaseRetriever
    from pydantic import ConfigDict, Field
except ImportError as error:
    raise MissingDependency(
        "the LangChain adapter needs langchain-core: pip install 'refcolbert[langchain]'"
    ) from error

__all__ = ["ColBERTReranker", "ColBERTRetriever"]


class ColBERTRetriever(BaseRetriever):
    """Documents of an index. `search_kwargs` are more arguments of `Index.search`: mode, min_score, nprobe, ...

    Arguments of `invoke` and `ainvoke` override all of them for one call: `invoke(query, k=3)`. A pickled retriever
    holds the path of the index. A document without text raises `InvalidInput`: LangChain's documents must have text.
    """

    model_config = ConfigDict(arbitrary_types_allowed=True)

    index: IndexReader
    k: int = 10
    where: dict[str, Any] | None = None
    search_kwargs: dict[str, Any] = Field(default_factory=dict)
    score_key: str | None = "relevance_score"

    def _get_relevant_documents(
        self, query: str, *, run_manager: CallbackManagerForRetrieverRun | None = None, **arguments: Any
    ) -> list[Document]:
        options = {"k": self.k, "where": self.where, **self.search_kwargs, **arguments}
        return [self._document(hit) for hit in self.index.search(query, **options)]

    async def _aget_relevant_documents(
        self, query: str, *, run_manager: AsyncCallbackManagerForRetrieverRun | None = None, **arguments: Any
    ) -> list[Document]:
        return await asyncio.to_thread(self._get_relevant_documents, query, **arguments)

    def _document(self, hit: Hit) -> Document:
        if hit.text is None:
            raise InvalidInput(
                f"expected documents with text, found none in {hit.id!r}: {self.index.path} holds it as vectors only"
            )
        metadata = {**hit.metadata, **_scored(self.score_key, hit)}
        return Document(id=hit.id, page_content=hit.text, metadata=metadata)


class ColBERTReranker(BaseDocumentCompressor):
    """Sorts the documents of any retriever by MaxSim, and keeps the `top_n` best (None: all)."""

    model_config = ConfigDict(arbitrary_types_allowed=True)

    encoder: Encoder = Field(default_factory=Encoder.load)
    top_n: int | None = None
    score_key: str | None = "relevance_score"

    def compress_documents(
        self, documents: Sequence[Document], query: str, callbacks: Callbacks | None = None
    ) -> list[Document]:
        """Copies of the best documents for the query, best first."""
        hits = rerank(query, [document.page_content for document in documents], self.encoder, self.top_n)
        return [self._copy(documents[int(hit.id)], hit) for hit in hits]

    def _copy(self, document: Document, hit: Hit) -> Document:
        return document.model_copy(update={"metadata": {**document.metadata, **_scored(self.score_key, hit)}})


def _scored(key: str | None, hit: Hit) -> dict[str, float]:
    return {} if key is None else {key: hit.score}
