"""The verbs that serve an index: to programs and people over HTTP, to agents over stdio."""

import logging
import os
import signal
from collections.abc import Callable
from dataclasses import fields
from pathlib import Path
from typing import Any

import click

from ..encoding.encoder import LENGTHS_LOG, Encoder
from ..errors import MissingDependency
from ..service import LIMITS, Live, ServiceLimits
from ..sharded import open_index
from ..storage.remote import is_url
from .options import FILE, MODEL, IndexPath
from .printing import counted, hide_warnings

__all__: list[str] = []  # the package registers every click command of this module

WAITING = 8  # threads of a router per core
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


@click.command("mcp")
@click.argument("indexes", nargs=-1, required=True, type=IndexPath(path_type=Path))
@MODEL
@click.option("--writable", is_flag=True, help="Also offer tools that add and delete documents.")
def mcp_command(indexes: tuple[Path | str, ...], model: str | None, writable: bool) -> None:
    """Give an agent the tools search, get and explain for INDEXES, by the Model Context Protocol over stdio.

    An agent asks for an index by the name of its folder. The first one is the default.
    """
    try:
        from ..service.mcp import mcp_server
    except ImportError as error:
        raise MissingDependency(f"mcp requires more packages: pip install 'refcolbert[mcp]' ({error})") from error
    names = [Path(path).name for path in indexes]
    if len(set(names)) != len(names):
        raise click.UsageError(f"expected folders of different names, found {', '.join(names)}")
    encoder = None if model is None else Encoder.load(model)
    opened = {name: open_index(path, encoder) for name, path in zip(names, indexes, strict=True)}
    mcp_server(opened, writable=writable).run()


@click.command("serve")
@click.argument("index", metavar="INDEX|URL...", nargs=-1, required=True)
@click.option("--writable", is_flag=True, help="Also take documents: /upsert, /delete, /metadata.")
@click.option("--shards", is_flag=True, help="Take URLs of services: of each part of a collection one, in order.")
@click.option("--complete", is_flag=True, help="With --shards: answer only if all parts do.")
@click.option(
    "--part-seconds",
    type=click.FloatRange(0.001),
    default=10.0,
    show_default=True,
    help="With --shards: time for the parts to answer; one that takes half of it is missing.",
)
@click.option("--part-token-file", type=FILE, help="With --shards: file with the parts' token; default: our own token.")
@MODEL
@click.option("--host", default="127.0.0.1", show_default=True, help="Address; one that others reach needs a token.")
@click.option("--port", type=click.IntRange(0, 65535), default=8000, show_default=True, help="0 takes a free port.")
@click.option("--token-file", type=FILE, help=f"File with the bearer token; or set {TOKEN}.")
@click.option("--allow-host", "hosts", multiple=True, help="Another name that requests may have in their Host header.")
@click.option("--log-requests", is_flag=True, help="Print one line per request on stderr.")
@_limits
def serve_command(
    index: tuple[str, ...],
    writable: bool,
    shards: bool,
    complete: bool,
    part_seconds: float,
    part_token_file: Path | None,
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

    With --shards, serve a collection whose parts are served at each URL, as one index. http://a:8000|http://b:8000 are
    two services of one part: the other one is asked if one fails or is slow.
    """
    if len(index) > 1 and not shards:
        raise click.UsageError(f"expected one INDEX, found {len(index)}; give --shards to name services of parts")
    if writable and shards:
        raise click.UsageError("expected --writable for the service of a part, found it with --shards")
    try:
        from ..service import router, server
    except ImportError as error:
        raise MissingDependency(f"serve requires more packages: pip install 'refcolbert[serve]' ({error})") from error
    level = logging.INFO if log_requests else logging.WARNING
    # A server's log has times. Without this, every warning would be printed twice.
    hide_warnings()
    logging.basicConfig(level=level, format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    # uvicorn warns of each malformed request, the encoder of each text that is too long.
    for name in ("uvicorn", LENGTHS_LOG):
        logging.getLogger(name).setLevel(logging.INFO if log_requests else logging.ERROR)
    given = click.get_current_context().get_parameter_source("threads")
    if shards and given is click.core.ParameterSource.DEFAULT:
        # A thread of a router mostly waits for its parts.
        options["threads"] *= WAITING
    limits = ServiceLimits(**options)  # type: ignore[arg-type]  # click reads each as its default's type
    token = (token_file.read_text().strip() if token_file else os.environ.get(TOKEN)) or None
    live: Live | router.Router
    if shards:
        of_parts = part_token_file.read_text().strip() if part_token_file else token
        live = router.Router(
            index,
            model,
            limits,
            token=of_parts,
            complete=complete,
            seconds=part_seconds,
        )
    else:
        live = Live(
            index[0] if is_url(index[0]) else Path(index[0]), model, threads=limits.inner_threads, writable=writable
        )
    names = frozenset(name.lower() for name in hosts)
    try:
        bound = server.bind(live, host=host, port=port, limits=limits, token=token, hosts=names)
    except OSError as error:
        raise click.ClickException(
            f"cannot listen at {host}, port {port}: {error.strerror}; stop the program that uses that port, "
            "or choose others with --host and --port (0 takes a free port)"
        ) from error
    what = f"the collection of {counted(len(index), 'part')}" if shards else index[0]
    click.echo(f"{what} is served at {bound.url}", err=True)
    # uvicorn raises the signal that ended it once more after it has finished: the exit code is still 0.
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, signal.SIG_IGN)
    bound.run()
