"""The index of LlamaIndex: documents go in, nodes come out."""

import asyncio

import pytest
from llama_index.core import StorageContext
from llama_index.core.llms import MockLLM
from llama_index.core.node_parser import MarkdownNodeParser, TokenTextSplitter
from llama_index.core.schema import Document, IndexNode, NodeRelationship, RelatedNodeInfo, TextNode
from llama_index.core.vector_stores import MetadataFilters

from refcolbert.adapters.llamaindex import ColBERTIndex

QUERY = "how do I parse a date"
# Four words per node: the splitter takes four more for the metadata.
OPTIONS = {"transformations": [TokenTextSplitter(chunk_size=8, chunk_overlap=0, tokenizer=str.split)]}


def documents():
    """Documents as a loader returns them."""
    return [
        Document(id_="guide", text="a date is parsed from a text", metadata={"year": 2024}),
        Document(id_="story", text="the cat sat", metadata={"year": 2021}, excluded_llm_metadata_keys=["year"]),
    ]


@pytest.fixture
def made(tmp_path, encoder):
    """An index of two documents, three nodes."""
    return ColBERTIndex.from_documents(documents(), index=tmp_path / "i", encoder=encoder, **OPTIONS)


def texts(made):
    """The texts of all nodes, by position."""
    return [document.text for document in made.index.documents()]


def test_documents_become_nodes(made):
    """Nodes are cut by LlamaIndex, and know their documents."""
    assert texts(made) == ["a date is parsed", "from a text", "the cat sat"]
    assert {source: len(info.node_ids) for source, info in made.ref_doc_info.items()} == {"guide": 2, "story": 1}
    assert made.docstore.docs == {}


def test_nodes_come_back_whole(tmp_path, encoder):
    """Everything that LlamaIndex knows about a node comes back with it, also from a folder opened again."""
    node = TextNode(
        id_="n",
        text="a date",
        metadata={"year": 2024, "doc_id": "mine"},
        start_char_idx=3,
        excluded_llm_metadata_keys=["year"],
        relationships={NodeRelationship.SOURCE: RelatedNodeInfo(node_id="guide")},
    )
    other = IndexNode(id_="m", text="a table", index_id="tables")
    ColBERTIndex([node, other], index=tmp_path / "i", encoder=encoder)
    found = ColBERTIndex(index=tmp_path / "i", encoder=encoder).as_retriever().retrieve(QUERY)
    assert {n.node.node_id: n.node for n in found} == {"n": node, "m": other}


def test_new_metadata_are_those_of_the_node(made):
    """A node has the metadata that the index has when they were changed there."""
    (story,) = [d for d in made.index.documents() if d.metadata["ref_doc_id"] == "story"]
    made.index.update_metadata({story.id: {**story.metadata, "year": 1999}})
    (found,) = made.as_retriever(filters=MetadataFilters.from_dicts([{"key": "year", "value": 1999}])).retrieve(QUERY)
    assert found.node.metadata == {"year": 1999}


def test_a_retriever_searches_the_index(made):
    """Order and scores are those of `Index.search`, with the arguments of `as_retriever`."""
    hits = made.index.search(QUERY, 2, mode="hybrid", where={"year": 2024})
    filters = MetadataFilters.from_dicts([{"key": "year", "value": 2024}])
    found = made.as_retriever(similarity_top_k=2, filters=filters, search_kwargs={"mode": "hybrid"}).retrieve(QUERY)
    assert [(n.node.node_id, n.score) for n in found] == [(hit.id, hit.score) for hit in hits]


def test_a_retriever_of_some_nodes_finds_only_these(made):
    """Only the nodes that `node_ids` names are found; none is found among none."""
    second = made.index.search(QUERY, 2)[1].id
    assert [n.node.node_id for n in made.as_retriever(node_ids=[second]).retrieve(QUERY)] == [second]
    assert made.as_retriever(node_ids=[]).retrieve(QUERY) == []


def test_a_query_engine_answers(made):
    """The best nodes are sources of the answer, without the metadata that the language model must not see."""
    answer = made.as_query_engine(llm=MockLLM(), similarity_top_k=3, response_mode="compact").query(QUERY)
    assert [n.node.node_id for n in answer.source_nodes] == [hit.id for hit in made.index.search(QUERY, 3)]
    assert "a date is parsed" in answer.response
    assert "2024" in answer.response
    assert "2021" not in answer.response


def test_a_chat_engine_answers(made):
    """The best nodes are sources of the answer in a conversation, too."""
    answer = made.as_chat_engine(llm=MockLLM(), similarity_top_k=2).chat(QUERY)
    assert [n.node.node_id for n in answer.source_nodes] == [hit.id for hit in made.index.search(QUERY, 2)]


def test_a_document_replaces_itself(made):
    """The nodes of a document are replaced when it is inserted, updated or loaded again."""
    shorter = Document(id_="guide", text="no more dates")
    made.insert(shorter)
    assert texts(made) == ["the cat sat", "no more dates"]
    made.update_ref_doc(documents()[0])
    assert texts(made) == ["the cat sat", "a date is parsed", "from a text"]
    ColBERTIndex.from_documents([shorter], index=made.index, **OPTIONS)
    assert texts(made) == ["the cat sat", "no more dates"]


def test_a_document_that_became_empty_is_gone(tmp_path, encoder):
    """No node is left when the new text of a document has none."""
    made = ColBERTIndex.from_documents(
        documents(), index=tmp_path / "i", encoder=encoder, transformations=[MarkdownNodeParser()]
    )
    made.update_ref_doc(Document(id_="guide", text=""))
    assert texts(made) == ["the cat sat"]


def test_only_what_changed_is_refreshed(made):
    """`refresh_ref_docs` encodes new and changed documents, and those that were deleted."""
    story = Document(id_="story", text="a dog sat")
    assert made.refresh_ref_docs([documents()[0], story]) == [False, True]
    made.delete_ref_doc("guide")
    assert made.refresh_ref_docs([documents()[0], story]) == [True, False]
    assert texts(made) == ["a dog sat", "a date is parsed", "from a text"]


def test_hashes_are_persisted_by_llamaindex(made, tmp_path):
    """Unchanged documents are skipped by another object when the storage context comes back from disk."""
    made.storage_context.persist(tmp_path / "context")
    context = StorageContext.from_defaults(persist_dir=tmp_path / "context")
    again = ColBERTIndex(index=made.index, storage_context=context, **OPTIONS)
    assert again.refresh_ref_docs([*documents(), Document(id_="new", text="one")]) == [False, False, True]


def test_nodes_without_a_document_stay_apart(made):
    """A node without a source replaces and deletes no other one."""
    made.insert_nodes([TextNode(id_="x", text="one"), TextNode(id_="y", text="two")])
    made.insert_nodes([TextNode(id_="x", text="three")])
    assert texts(made)[-2:] == ["two", "three"]
    made.delete_ref_doc("y")
    made.delete_nodes(["unknown"])
    assert texts(made)[-1:] == ["three"]
    made.delete_nodes(["x"])
    assert len(made.index) == 3


def test_deleting_a_document(made):
    """All its nodes are deleted, and deleting it twice is no error."""
    made.delete_ref_doc("guide")
    made.delete_ref_doc("guide")
    assert texts(made) == ["the cat sat"]


def test_asynchronous_calls_do_the_same(made):
    """Coroutines insert, update and delete as the methods do."""

    async def all_of_it():
        await made.ainsert(Document(id_="new", text="one"))
        await made.aupdate_ref_doc(Document(id_="new", text="two"))
        await made.ainsert_nodes([TextNode(id_="x", text="three"), TextNode(id_="y", text="four")])
        await made.adelete_nodes(["x"])
        await made.adelete_ref_doc("guide")

    asyncio.run(all_of_it())
    assert texts(made) == ["the cat sat", "two", "four"]


def test_notes_of_others_are_nodes(index):
    """Documents that were added without LlamaIndex are nodes, each its own source."""
    made = ColBERTIndex(index=index)
    assert {n.node.node_id for n in made.as_retriever().retrieve(QUERY)} == set(index.ids())
    assert made.ref_doc_info["dates"].node_ids == ["dates"]
