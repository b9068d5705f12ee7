"""The engines that the suite faces."""

__all__ = ["ENGINES"]

ENGINES = {  # name in the table: adapter, environment, the package whose version is noted
    "definition": ("refcolbert.definition", None, None),
    "refcolbert": ("tools.conformance.exported", None, None),
    "PyLate": ("tools.conformance.pylate", "pylate", "pylate"),
    "colbert-ai": ("tools.conformance.colbert_ai", "stanford", "colbert-ai"),
    "Sentence-Transformers": ("tools.conformance.multivector", "multivector", "sentence-transformers"),
    "maxsim-cpu": ("tools.conformance.maxsim_cpu", "peers", "maxsim-cpu"),
    "fast-plaid": ("tools.conformance.fast_plaid", "peers", "fast-plaid"),
    "bm25s": ("tools.conformance.bm25s", "words", "bm25s"),
}
