"""The page on a port of this machine: some browsers let pages from disk do less."""

from __future__ import annotations

from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread

_HOST = "127.0.0.1"


class Server:
    """Serves one page to this machine alone, until it is closed.

    Args:
        text: of the page.
        port: 0 takes a free one.

    Raises:
        ValueError: if there can be no such port.
        OSError: if it is taken.

    Example:
        >>> from urllib.request import urlopen
        >>> with Server("<p>hello") as server:
        ...     server.start()
        ...     urlopen(server.address).read()
        b'<p>hello'
    """

    def __init__(self, text: str, port: int = 0) -> None:
        if not 0 <= port <= 65535:
            raise ValueError(f"`port` must be between 0 and 65535; got {port}. 0 takes a free one.")
        content = text.encode()

        class Answer(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                # A page elsewhere must not read this one by a name of its own that leads here.
                name = self.headers.get("Host", "").rpartition(":")[0]
                if self.path.partition("?")[0] != "/" or name not in (_HOST, "localhost"):
                    return self.send_error(404)
                self.send_response(200)
                self.send_header("Content-Type", "text/html; charset=utf-8")
                self.send_header("Content-Length", str(len(content)))
                self.send_header("Cache-Control", "no-store")
                self.send_header("X-Content-Type-Options", "nosniff")
                self.end_headers()
                self.wfile.write(content)
                return None

            def log_message(self, format: str, *args: object) -> None:
                """Nobody reads it."""

        try:
            self._server = ThreadingHTTPServer((_HOST, port), Answer)
        except OSError as error:
            raise OSError(f"Port {port} cannot be had: {error.strerror or error}. Give another, or 0.") from error
        self._server.daemon_threads = True

    @property
    def address(self) -> str:
        """Where the page is."""
        return f"http://{_HOST}:{self._server.server_port}/"

    def serve(self) -> None:
        """Serve until another thread closes it, or Ctrl-C."""
        self._server.serve_forever(poll_interval=0.2)

    def start(self) -> None:
        """Serve from another thread."""
        Thread(target=self.serve, daemon=True).start()

    def close(self) -> None:
        """Stop."""
        self._server.shutdown()
        self._server.server_close()

    def __enter__(self) -> Server:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()
