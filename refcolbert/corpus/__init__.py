"""Files -> documents -> passages.

Read in this order:

    readers            JSONL, TSV, CSV, Markdown, text files and folders of them -> documents
    markdown           a Markdown text -> front matter and sections
    passages           a long document -> passages
    stdlib_docstrings  the demo's documents: docstrings of Python's standard library

May import: documents, checks, errors. `read_documents`, `read_stream` and `split` are public; everything else here may
change in any release.
"""
