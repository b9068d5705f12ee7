"""Generations of an index on disk: what survives a crash, and in which order it is written.

Read in this order:

    format         the bytes on disk: its docstring is the specification
    strict_json    JSON that is exactly what a table of rules allows
    locks          opening and locking files; how readers pin a generation
    durable        the operations that change a disk, which tests crash and fail
    document_file  ids, texts and metadata of a segment in one SQLite file
    filters        metadata filters -> SQL
    store          the only writer of index files: staging, commit by rename, lock, garbage collection
    segment_files  one segment, from memory to files and back
    generation     one state of an index, and how the next one is made
    bulk_build     a large collection in bounded memory, resumable, published once
    groups         documents that share a metadata value

May import: the engine, documents, arrays, checks, errors. Nothing here is public but the format itself.
"""
