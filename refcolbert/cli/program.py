"""The group of all verbs, and how the program ends.

Answers go to stdout; progress, notes and errors go to stderr. Exit codes: 0 done, 1 an error, 2 wrong usage,
130 interrupted, 141 the reader of stdout has closed it.
"""

import logging
import os
import re
import sys
from importlib.metadata import entry_points
from typing import Any

import click

from .._version import __version__
from ..encoding.encoder import LENGTHS_LOG, PROGRESS_LOG
from ..errors import RefColbertError
from .printing import in_shell_terms, show_warnings

__all__ = ["Commands", "main"]

# The entry point group through which other packages add verbs.
EXTRA_COMMANDS = "refcolbert.commands"
INTERRUPTED, PIPE_CLOSED = 130, 141  # the exit codes that shells use for SIGINT and SIGPIPE


def _for_shell(message: str, command: click.Command | None) -> str:
    """The message of an error with verbs and options of the shell for methods and arguments of Python."""
    message = in_shell_terms(message)
    for option in command.params if command else ():
        if isinstance(option, click.Option):
            message = re.sub(rf"^{option.name}(?= must be | is )", option.opts[0], message)
            message = re.sub(rf"\b{option.name}='(\w+)'", rf"{option.opts[0]} \1", message)
    return message


class Commands(click.Group):
    """The verbs of this package, and those that other packages register, imported only when they are used."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """The names of all verbs, in alphabetical order."""
        return sorted({*super().list_commands(ctx), *(point.name for point in entry_points(group=EXTRA_COMMANDS))})

    def get_command(self, ctx: click.Context, name: str) -> click.Command | None:
        """The verb of that name, or None."""
        command = super().get_command(ctx, name)
        for point in entry_points(group=EXTRA_COMMANDS, name=name) if command is None else ():
            command = point.load()
        return command

    def invoke(self, ctx: click.Context) -> Any:
        """Run the verb. Errors, interruptions and closed pipes become a message and an exit code, not a traceback."""
        try:
            return super().invoke(ctx)
        except RefColbertError as error:
            command = self.get_command(ctx, ctx.invoked_subcommand or "")
            message = _for_shell(str(error), command)
            raise click.ClickException(f"{type(error).__name__}: {message}") from error
        except BrokenPipeError:
            # The interpreter flushes stdout when it ends, and would fail on it once more.
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            ctx.exit(PIPE_CLOSED)
        # A file of the user: no permission, no such folder, no space.
        except OSError as error:
            raise click.ClickException(str(error)) from error
        except KeyboardInterrupt as error:
            click.echo(str(error) or "Interrupted.", err=True)
            ctx.exit(INTERRUPTED)


@click.group(cls=Commands, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="refcolbert")
@click.pass_context
def main(ctx: click.Context) -> None:
    """ColBERT retrieval in process, without torch."""
    show_warnings()
    for handler in logging.getLogger("refcolbert").handlers:
        handler.setLevel(logging.INFO)
        handler.addFilter(_is_shown)
    # A terminal has progress bars.
    if not sys.stderr.isatty():
        log = logging.getLogger(PROGRESS_LOG)
        log.setLevel(logging.INFO)
        ctx.call_on_close(lambda: log.setLevel(logging.NOTSET))


def _is_shown(record: logging.LogRecord) -> bool:
    """True for progress and warnings, but not of long documents: the verbs print a note before they encode them."""
    if record.name == LENGTHS_LOG:
        return "documents" not in (record.args or ())
    return record.levelno >= logging.WARNING or record.name == PROGRESS_LOG
