"""Files -> documents -> passages.

Read in this order:

    readers            JSONL, TSV, CSV, Markdown, text files and folders of them -> documents
    markdown           a Markdown file -> its sections
    passages           a long document -> passages
    stdlib_docstrings  the demo's collection: docstrings of Python's standard library

May import: documents, encoding, checks, errors. `read_documents`, `read_stream` and `split` are public.
"""
