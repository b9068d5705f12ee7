"""The group that every verb hangs from: where verbs come from, and how the program ends.

Answers go to stdout; progress, notes and errors to stderr. Exit codes: 0 done, 1 a refcolbert error, 2 wrong usage,
130 interrupted, 141 whoever read stdout has gone.
"""

import os
import sys
from importlib.metadata import entry_points
from typing import Any

import click

from .._version import __version__
from ..errors import RefColbertError
from .printing import show_warnings

__all__ = ["Commands", "main"]

EXTRA_COMMANDS = "refcolbert.commands"  # the entry point group through which other packages add verbs
INTERRUPTED, PIPE_CLOSED = 130, 141  # what a shell makes of SIGINT and SIGPIPE


class Commands(click.Group):
    """Our verbs and those of the entry point group; a verb's module is imported when it is asked for."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Every verb, alphabetically."""
        return sorted({*super().list_commands(ctx), *(point.name for point in entry_points(group=EXTRA_COMMANDS))})

    def get_command(self, ctx: click.Context, name: str) -> click.Command | None:
        """The verb of that name, or None."""
        command = super().get_command(ctx, name)
        for point in entry_points(group=EXTRA_COMMANDS, name=name) if command is None else ():
            command = point.load()
        return command

    def invoke(self, ctx: click.Context) -> Any:
        """Run the verb; what goes wrong outside of us becomes a message and an exit code, never a traceback."""
        try:
            return super().invoke(ctx)
        except RefColbertError as error:
            raise click.ClickException(f"{type(error).__name__}: {error}") from error
        except BrokenPipeError:
            _let_go_of_stdout()
            ctx.exit(PIPE_CLOSED)
        except OSError as error:  # a file that is not ours: no permission, no such folder, no space
            raise click.ClickException(str(error)) from error
        except KeyboardInterrupt as error:
            click.echo(str(error) or "Interrupted.", err=True)
            ctx.exit(INTERRUPTED)


@click.group(cls=Commands, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="refcolbert")
def main() -> None:
    """ColBERT retrieval in process, without torch."""
    show_warnings()


def _let_go_of_stdout() -> None:
    """What is still to be written goes nowhere; else the interpreter would fail on it once more when it ends."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, sys.stdout.fileno())
