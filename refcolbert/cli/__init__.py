"""The command line: each verb calls the library's function of the same purpose and prints its result.

Read in this order:

    program   the group of all verbs, exit codes, the entry point group `refcolbert.commands` for other packages
    options   arguments and options that several verbs share
    sources   the documents that verbs read
    printing  hits, explanations and tables in a terminal, JSON for programs
    manage, search, evaluate, plan, demo, serve    the verbs

May import: everything but the adapters. Only the program `refcolbert` is public.
"""

import click

from . import demo, evaluate, manage, plan, search, serve
from .program import main

__all__ = ["main"]

for module in (demo, evaluate, manage, plan, search, serve):
    for command in vars(module).values():
        if isinstance(command, click.Command):
            main.add_command(command)
