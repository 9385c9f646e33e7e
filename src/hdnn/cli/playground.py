"""Open the playground: `hdnn playground`."""

from pathlib import Path
from typing import Annotated

import typer

from hdnn.cli.messages import say, show
from hdnn.cli.options import OUTPUT, option


def playground(
    run: Annotated[
        Path | None, typer.Argument(help="Folder of a run on points of the plane, which the page shows first; or none.")
    ] = None,
    output: Annotated[
        Path | None, option(OUTPUT, "Write the page to this one file, and end.", "--output", "-o", default="none")
    ] = None,
    overwrite: Annotated[bool, option(OUTPUT, "Replace the file.", "--overwrite", default="off")] = False,
    port: Annotated[int, option(None, "Port of this machine that the page is on; 0 takes a free one.")] = 0,
    no_browser: Annotated[bool, option(None, "Open no browser.", "--no-browser", default="off")] = False,
) -> None:
    """Train deep networks in a page of your browser, and see whether their gradients reach the first layer."""
    from hdnn.playground.page import page, write_page

    first = None
    if run is not None:
        from hdnn.playground.planar import brought

        first = brought(run)
        if output is not None:
            from hdnn.files import require_apart
            from hdnn.runs import files_of

            require_apart(output, files_of(run))
    text = page(first)
    if output is not None:
        write_page(output, text, overwrite=overwrite)
        show(f"Page: {output}")
        return
    from hdnn.playground.server import Server

    server = Server(text, port)
    show(f"Playground: {server.address}")
    say("It is there until Ctrl-C.")
    if not no_browser:
        import webbrowser

        webbrowser.open(server.address)
    server.serve()
