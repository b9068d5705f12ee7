"""The verb that serves an index over HTTP."""

import logging
import os
import signal
from collections.abc import Callable
from dataclasses import fields
from pathlib import Path
from typing import Any

import click

from ..encoding.encoder import LENGTHS_LOG
from ..errors import MissingDependency
from ..service import LIMITS, Live, ServiceLimits
from .options import FILE, INDEX, MODEL

__all__: list[str] = []  # the package registers every click command of this module

TOKEN = "REFCOLBERT_TOKEN"  # noqa: S105 - the name of a variable


def _limits(command: Callable[..., Any]) -> Callable[..., Any]:
    """Give a verb one option for each of the service's limits."""
    for entry in reversed(fields(ServiceLimits)):
        cores = entry.name == "threads"
        name = f"--max-{entry.name}" if entry.type is int and not cores else f"--{entry.name}"
        command = click.option(
            name.replace("_", "-"),
            entry.name,
            default=entry.default,
            show_default="the number of cores" if cores else True,
            help=LIMITS[entry.name],
        )(command)
    return command


@click.command("serve")
@INDEX
@MODEL
@click.option("--host", default="127.0.0.1", show_default=True, help="Address; one that others reach needs a token.")
@click.option("--port", type=click.IntRange(0, 65535), default=8000, show_default=True, help="0 takes a free port.")
@click.option("--token-file", type=FILE, help=f"File with the bearer token; or set {TOKEN}.")
@click.option("--allow-host", "hosts", multiple=True, help="Another name that requests may have in their Host header.")
@click.option("--log-requests", is_flag=True, help="Print one line per request on stderr.")
@_limits
def serve_command(
    index: Path | str,
    model: str | None,
    host: str,
    port: int,
    token_file: Path | None,
    hosts: tuple[str, ...],
    log_requests: bool,
    **options: float,
) -> None:
    """Serve INDEX over HTTP, with a search page at /.

    What writers commit is served within a second. After SIGTERM the running requests are finished.
    """
    try:
        from ..service import server
    except ImportError as error:
        raise MissingDependency(f"serve requires more packages: pip install 'refcolbert[serve]' ({error})") from error
    level = logging.INFO if log_requests else logging.WARNING
    logging.basicConfig(level=level, format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    # uvicorn warns of each malformed request, the encoder of each text that is too long.
    for name in ("uvicorn", LENGTHS_LOG):
        logging.getLogger(name).setLevel(logging.INFO if log_requests else logging.ERROR)
    limits = ServiceLimits(**options)  # type: ignore[arg-type]  # click reads each as its default's type
    live = Live(index, model, threads=limits.inner_threads)
    token = (token_file.read_text().strip() if token_file else os.environ.get(TOKEN)) or None
    names = frozenset(name.lower() for name in hosts)
    try:
        bound = server.bind(live, host=host, port=port, limits=limits, token=token, hosts=names)
    except OSError as error:
        raise click.ClickException(
            f"cannot listen at {host}, port {port}: {error.strerror}; stop the program that uses that port, "
            "or choose others with --host and --port (0 takes a free port)"
        ) from error
    click.echo(f"{index} is served at {bound.url}", err=True)
    # uvicorn raises the signal that ended it once more after it has finished: the exit code is still 0.
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, signal.SIG_IGN)
    bound.run()
