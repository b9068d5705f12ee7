"""Files -> documents -> passages.

Read in this order:

    readers            files of all layouts and folders of them -> documents
    folders            a folder -> its files
    markdown           a Markdown text -> front matter and sections
    pages              HTML and PDF -> sections
    source_code        source code -> a section per definition
    tables             Parquet and Arrow files -> rows
    passages           a long document -> passages
    stdlib_docstrings  the demo's documents: docstrings of Python's standard library

May import: documents, checks, errors. `read_documents`, `read_stream` and `split` are public; everything else here may
change in any release.
"""
