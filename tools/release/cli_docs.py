"""Write docs/cli.md: every verb with its arguments and options, as click knows them.

python -m tools.release.cli_docs
"""

import inspect
import re

import click

from refcolbert.cli import main as program
from tools import ROOT

__all__ = ["PAGE", "page"]

PAGE = ROOT / "docs" / "cli.md"
BEGINNING = """# Command line

Made by `python -m tools.release.cli_docs`; `refcolbert VERB --help` says the same.

Answers go to stdout; progress, notes and errors to stderr. Progress is a bar on a terminal, and elsewhere one line per
minute while documents are encoded. With `--json` stdout is JSON, one object or one object per line, with the names
that each verb lists below.

| exit code | |
|---|---|
| 0 | done |
| 1 | an error, which stderr names and says what to do about |
| 2 | wrong usage |
| 130 | interrupted by Ctrl-C: `index` goes on with the same command, other verbs have changed nothing |
| 141 | whoever read stdout has gone |

## Completion

Verbs, options and file names, once the line for your shell is in its start-up file:

```console
$ eval "$(_REFCOLBERT_COMPLETE=bash_source refcolbert)"         # ~/.bashrc
$ eval "$(_REFCOLBERT_COMPLETE=zsh_source refcolbert)"          # ~/.zshrc, after compinit
$ _REFCOLBERT_COMPLETE=fish_source refcolbert | source          # ~/.config/fish/config.fish
```
"""


def page() -> str:
    """The whole text of docs/cli.md."""
    context = click.Context(program, info_name="refcolbert")
    names = program.list_commands(context)
    commands = [(name, program.get_command(context, name)) for name in names]
    return "\n".join([BEGINNING, *(_verb(name, command, context) for name, command in commands if command)])


def _verb(name: str, command: click.Command, parent: click.Context) -> str:
    context = click.Context(command, info_name=name, parent=parent)
    usage = " ".join(["refcolbert", name, *command.collect_usage_pieces(context)])
    text = re.sub(r"(?<!\n)\n(?!\n)", " ", inspect.cleandoc(command.help or ""))
    options = [_option(option, context) for option in command.params if isinstance(option, click.Option)]
    return "\n".join([f"## {name}", "", f"    {usage}", "", text, "", *options, ""])


def _option(option: click.Option, context: click.Context) -> str:
    value = "" if option.is_flag else f" {option.metavar or _values(option)}"
    names = ", ".join([*option.opts, *option.secondary_opts])
    default = _default(option) if option.show_default and not option.is_flag else ""
    needed = " Required." if option.required else ""
    return f"- `{names}{value}`: {option.help or ''}{needed}{default}"


def _values(option: click.Option) -> str:
    if isinstance(option.type, click.Choice):
        return "|".join(map(str, option.type.choices))
    return option.type.name.split(" ")[0].upper()


def _default(option: click.Option) -> str:
    # A text in place of True says what the default is: the number of cores, which is another one on each machine.
    default = option.show_default if isinstance(option.show_default, str) else option.default
    shown = ", ".join(map(str, default)) if isinstance(default, tuple | list) else str(default)
    return f" Default: {shown}."


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
