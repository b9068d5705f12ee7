"""The verb that serves an index over HTTP."""

import logging
import os
import signal
from collections.abc import Callable
from dataclasses import fields
from pathlib import Path
from typing import Any

import click

from ..errors import MissingDependency
from ..service import LIMITS, Live, ServiceLimits
from .options import INDEX, MODEL

__all__ = ["serve"]

TOKEN = "REFCOLBERT_TOKEN"  # noqa: S105 - the name of a variable
HOST, PORT = "127.0.0.1", 8000


def _limits(command: Callable[..., Any]) -> Callable[..., Any]:
    """One option for each of the service's limits."""
    for entry in reversed(fields(ServiceLimits)):
        name = (
            f"--max-{entry.name}" if isinstance(entry.default, int) and entry.name != "threads" else f"--{entry.name}"
        )
        shown = "the number of cores" if entry.name == "threads" else True
        option = click.option(
            name.replace("_", "-"), entry.name, default=entry.default, show_default=shown, help=LIMITS[entry.name]
        )
        command = option(command)
    return command


@click.command()
@INDEX
@MODEL
@click.option("--host", default=HOST, show_default=True, help="Address to listen at; one of others' needs a token.")
@click.option("--port", default=PORT, show_default=True, help="Port to listen at; 0 takes a free one.")
@click.option(
    "--token-file", type=click.Path(exists=True, path_type=Path), help=f"Holds the bearer token; or set {TOKEN}."
)
@click.option("--allow-host", "hosts", multiple=True, help="A further name by which the service is called.")
@click.option("--log-requests", is_flag=True, help="One line a request on stderr.")
@_limits
def serve(
    index: Path,
    model: str | None,
    host: str,
    port: int,
    token_file: Path | None,
    hosts: tuple[str, ...],
    log_requests: bool,
    **limits: float,
) -> None:
    """Serve INDEX over HTTP, with a search page at /. It follows what writers commit; SIGTERM ends it gently."""
    try:
        from ..service import server
    except ImportError as error:
        raise MissingDependency(f"'serve' needs the extra: pip install 'refcolbert[serve]' ({error})") from error
    level = logging.INFO if log_requests else logging.WARNING
    logging.basicConfig(level=level, format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    logging.getLogger("uvicorn").setLevel(
        logging.INFO if log_requests else logging.ERROR
    )  # it warns of each bad request
    token = token_file.read_text().strip() if token_file else os.environ.get(TOKEN)
    allowed = ServiceLimits(**limits)  # type: ignore[arg-type]  # click read each as its default's type
    bound = server.bind(
        Live(index, model, threads=allowed.inner_threads),
        host=host,
        port=port,
        limits=allowed,
        token=token or None,
        hosts=frozenset(name.lower() for name in hosts),
    )
    click.echo(f"{index} is served at {bound.url}", err=True)
    # uvicorn raises the signal that ended it once more after it has finished: the exit code is still 0.
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, signal.SIG_IGN)
    bound.run()
