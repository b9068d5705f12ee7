"""Import of indexes that other programs wrote, and export of vectors for other programs.

Read in this order:

    plaid         indexes in PLAID's layout: fast-plaid, next-plaid, Stanford's ColBERT
    vector_files  decoded vectors as `.npz` and `.safetensors`

May import: everything up to the index. `import_plaid` and `export_vectors` are public.
"""
