"""Generations of an index on disk, and how one replaces another so that a crash never leaves a mixture.

Read in this order:

    format         the bytes on disk: its docstring is the specification
    strict_json    JSON that obeys a table of rules
    locks          opening and locking files; how readers pin a generation
    durable        the operations that change a disk, which tests crash and fail
    document_file  ids, texts and metadata of a segment in one SQLite file
    filters        metadata filters -> SQL
    store          the only module that writes index files: staging, commit by rename, lock, garbage collection
    segment_files  one segment, from memory to files and back
    generation     one complete state of an index
    publish        how the next generation is made: merge, fit the codec, write, commit
    bulk_build     a large collection in bounded memory, resumable, published in one step
    groups         documents that share a metadata value
    shards         several indexes in one folder, searched as one
    objects        the objects at a URL
    remote         indexes at URLs: publishing, and reading through a cache

May import: the engine, documents, arrays, checks, errors. Only the format, and publishing at URLs, are public.
"""
