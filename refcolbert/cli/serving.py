"""The verb that serves an index over HTTP."""

from pathlib import Path

import click

from .options import INDEX, MODEL

__all__ = ["serve"]


@click.command()
@INDEX
@MODEL
@click.option("--host", default="127.0.0.1", show_default=True, help="Address to listen at.")
@click.option("--port", default=8000, show_default=True, help="Port to listen at.")
def serve(index: Path, model: str | None, host: str, port: int) -> None:
    """Serve INDEX over HTTP, with a search page at /."""
    import uvicorn

    from ..service import Live, create_app

    uvicorn.run(create_app(Live(index, model)), host=host, port=port, server_header=False)
