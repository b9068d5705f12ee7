"""LangChain: an index as a vector store and as a retriever, MaxSim as a document compressor (extra `langchain`).

LangChain has no filter language: `where` of the retriever and `filter` of the store are filters of refcolbert.
"""

import asyncio
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, NoReturn
from uuid import uuid4

from ..documents import Document as Stored
from ..encoding.encoder import Encoder
from ..errors import InvalidInput, MissingDependency
from ..hits import Hit
from ..reading import IndexReader
from ..rerank import rerank
from .stores import Writable, matching, opened, remove, text_of

try:
    from langchain_core.callbacks import (
        AsyncCallbackManagerForRetrieverRun,
        CallbackManagerForRetrieverRun,
        Callbacks,
    )
    from langchain_core.documents import BaseDocumentCompressor, Document
    from langchain_core.retrievers import BaseRetriever
    from langchain_core.vectorstores import VectorStore
    from pydantic import ConfigDict, Field
except ImportError as error:
    raise MissingDependency(
        "the LangChain adapter needs langchain-core: pip install 'refcolbert[langchain]'"
    ) from error

__all__ = ["ColBERTReranker", "ColBERTRetriever", "ColBERTVectorStore"]


class ColBERTVectorStore(VectorStore):
    """Documents in an index: LangChain adds, deletes, reads and searches them.

    ColBERT has one vector per token, so there is no embedding of a text: `embedding` must be None, and the methods that
    take or compare single vectors raise `InvalidInput`. Further arguments of the search methods are those of
    `Index.search`: mode, min_score, nprobe, ...
    """

    def __init__(self, index: Writable | str | Path, encoder: Encoder | None = None) -> None:
        """`index` is an open index, or a folder: its index is opened, or made if there is none."""
        self.index = opened(index, encoder)

    @classmethod
    def from_texts(
        cls,
        texts: list[str],
        embedding: None = None,
        metadatas: list[dict[str, Any]] | None = None,
        *,
        ids: list[str] | None = None,
        index: Writable | str | Path,
        encoder: Encoder | None = None,
    ) -> "ColBERTVectorStore":
        """Return the store of an index, to which the texts are added. Raises `InvalidInput` for an embedding."""
        if embedding is not None:
            raise InvalidInput(
                f"expected embedding=None, found {type(embedding).__name__}: the index makes its own vectors, one per "
                "token; pass encoder= to choose the model"
            )
        store = cls(index, encoder)
        store.add_texts(texts, metadatas, ids=ids)
        return store

    @classmethod
    def from_documents(cls, documents: list[Document], embedding: None = None, **arguments: Any) -> Any:
        """Return the store of an index, to which the documents are added. `arguments` are those of `from_texts`."""
        return super().from_documents(documents, embedding, **arguments)

    @classmethod
    async def afrom_documents(cls, documents: list[Document], embedding: None = None, **arguments: Any) -> Any:
        """Call `from_documents` in a thread."""
        return await asyncio.to_thread(cls.from_documents, documents, embedding, **arguments)

    def add_documents(self, documents: list[Document], *, ids: list[str] | None = None, **ignored: Any) -> list[str]:
        """Add documents in one transaction and return their ids. A document whose id is known replaces that one.

        `ids` take precedence over the documents' own. A document without an id gets a new one. `ignored` holds
        `batch_size`, which LangChain's indexing passes.
        """
        names = [document.id for document in documents] if ids is None else ids
        _as_many(names, documents)
        return self.index.upsert(
            {"id": name or str(uuid4()), "text": document.page_content, "metadata": document.metadata}
            for name, document in zip(names, documents, strict=True)
        )

    def add_texts(
        self,
        texts: Iterable[str],
        metadatas: list[dict[str, Any]] | None = None,
        *,
        ids: list[str] | None = None,
        **more: Any,
    ) -> list[str]:
        """Add texts in one transaction and return their ids; see `add_documents`."""
        # LangChain's own method drops the texts of a generator, and those that have no id of `ids`.
        texts = list(texts)
        if ids is not None:
            _as_many(ids, texts)
        names: list[str] = super().add_texts(texts, metadatas, ids=ids, **more)
        return names

    def delete(self, ids: list[str] | None = None, **ignored: Any) -> bool:
        """Delete documents, or all of them if `ids` is None. Ids that are not in the index are passed over."""
        remove(self.index, self.index.ids() if ids is None else ids)
        return True

    def get_by_ids(self, ids: Sequence[str], /) -> list[Document]:
        """Return the documents with these ids. Ids that are not in the index are passed over."""
        return [_document(self.index, stored) for stored in matching(self.index, ids=ids)]

    def similarity_search(
        self,
        query: str,
        k: int = 4,
        filter: dict[str, Any] | None = None,  # noqa: A002
        **options: Any,
    ) -> list[Document]:
        """Return the k best documents that match `filter`, best first."""
        return [document for document, _ in self.similarity_search_with_score(query, k, filter, **options)]

    def similarity_search_with_score(
        self,
        query: str,
        k: int = 4,
        filter: dict[str, Any] | None = None,  # noqa: A002
        **options: Any,
    ) -> list[tuple[Document, float]]:
        """Return the k best documents that match `filter`, with `Hit.score`: higher is better."""
        hits = self.index.search(query, k, where=filter, **options)
        return [(_document(self.index, hit), hit.score) for hit in hits]

    def _similarity_search_with_relevance_scores(
        self,
        query: str,
        k: int = 4,
        filter: dict[str, Any] | None = None,  # noqa: A002
        **options: Any,
    ) -> list[tuple[Document, float]]:
        """Return the k best documents with `Hit.similarity`, cut to the range from 0 to 1 that LangChain expects."""
        hits = self.index.search(query, k, where=filter, **options)
        if any(hit.similarity is None for hit in hits):
            raise InvalidInput("expected a mode with relevance scores, found 'words'; use similarity_search_with_score")
        return [(_document(self.index, hit), min(max(hit.similarity or 0.0, 0.0), 1.0)) for hit in hits]

    async def _asimilarity_search_with_relevance_scores(
        self, *arguments: Any, **options: Any
    ) -> list[tuple[Document, float]]:
        return await asyncio.to_thread(self._similarity_search_with_relevance_scores, *arguments, **options)

    def _refuse(self, *_: Any, **__: Any) -> NoReturn:
        raise InvalidInput(
            "expected a search by text, found one that compares single vectors: ColBERT has one vector per token; use "
            "similarity_search, or Index.search with an array of query vectors"
        )

    similarity_search_by_vector = _refuse
    max_marginal_relevance_search = _refuse
    max_marginal_relevance_search_by_vector = _refuse


class ColBERTRetriever(BaseRetriever):
    """Documents of an index, with the score under `score_key` of the metadata.

    `search_kwargs` are more arguments of `Index.search`: mode, min_score, nprobe, ... Arguments of `invoke` and
    `ainvoke` override all of them for one call: `invoke(query, k=3)`. A pickled retriever holds the path of the index.
    A document without text raises `InvalidInput`: LangChain's documents must have text.
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
        return [_document(self.index, hit, _scored(self.score_key, hit)) for hit in self.index.search(query, **options)]

    async def _aget_relevant_documents(
        self, query: str, *, run_manager: AsyncCallbackManagerForRetrieverRun | None = None, **arguments: Any
    ) -> list[Document]:
        return await asyncio.to_thread(self._get_relevant_documents, query, **arguments)


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


def _as_many(ids: Sequence[str | None], documents: Sequence[Any]) -> None:
    if len(ids) != len(documents):
        raise InvalidInput(f"expected {len(documents)} ids, one per document, found {len(ids)}; pass as many")


def _scored(key: str | None, hit: Hit) -> dict[str, float]:
    return {} if key is None else {key: hit.score}


def _document(index: IndexReader, found: Hit | Stored, more: dict[str, float] | None = None) -> Document:
    return Document(id=found.id, page_content=text_of(index, found), metadata={**found.metadata, **(more or {})})
