"""The command line: each verb calls the library's method of that name and prints what it returns.

`program` is the group that every verb hangs from, and how it ends; `options` what verbs share. A verb of another module
is added to VERBS below; one of another package comes through the entry point group `refcolbert.commands`.
"""

from .demo import demo
from .evaluate import evaluate_index, tune_index
from .manage import add, check, compact, delete, import_index, index, info, reencode, snapshot, vectors
from .plan import plan_index
from .program import main
from .search import explain, rerank, search
from .serve import serve

__all__ = ["main"]

VERBS = (
    *(index, add, delete, compact, reencode, check, info, snapshot, import_index, vectors),
    *(search, rerank, explain),
    *(evaluate_index, tune_index, plan_index),
    *(demo, serve),
)

for verb in VERBS:
    main.add_command(verb)
