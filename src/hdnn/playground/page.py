"""The page as a text, alone or with a network that it shows first."""

from __future__ import annotations

import base64
import json
import tarfile
import zlib
from collections.abc import Mapping
from functools import cache
from importlib import resources
from pathlib import Path
from typing import Any

from hdnn.files import write_whole

_OPENS = '<script type="application/json" id="run">'
_BEFORE = '<script type="application/octet-stream" id="kernels">'


def page(first: Mapping[str, Any] | None = None) -> str:
    """The playground as one HTML document that needs nothing else.

    Args:
        first: the network and data that it shows first, see `brought`; None leaves it as it is.

    Raises:
        OSError: if this installation has no page.

    Example:
        >>> page().startswith("<!doctype html>")
        True
    """
    text = _whole()
    if first is None:
        return text
    # A policy of hashes guards what runs; this is data, which does not. "<" is written so that nothing can end it.
    data = json.dumps(first, allow_nan=False, separators=(",", ":")).replace("<", "\\u003c")
    return text.replace(_BEFORE, f"{_OPENS}{data}</script>\n{_BEFORE}", 1)


@cache
def _whole() -> str:
    """The page with its kernels, packed as browsers can unpack them."""
    here = resources.files("hdnn.playground")
    try:
        with (here / "page.tar.xz").open("rb") as packed, tarfile.open(fileobj=packed, mode="r:xz") as archive:
            text, kernels = _content(archive, "index.html").decode(), _content(archive, "kernels.wasm")
    except FileNotFoundError as error:
        raise OSError(
            "This installation of hdnn has no playground: its page was not built. In a clone of the project run "
            "`make playground`; else install hdnn again."
        ) from error
    except tarfile.CompressionError as error:
        raise OSError("The kernels of the playground are packed by xz, which this Python was built without.") from error
    return text.replace("{{KERNELS}}", base64.b64encode(zlib.compress(kernels, 9)).decode(), 1)


def _content(archive: tarfile.TarFile, name: str) -> bytes:
    file = archive.extractfile(name)
    if file is None:
        raise FileNotFoundError(name)
    return file.read()


def write_page(path: str | Path, text: str, *, overwrite: bool = False) -> None:
    """Write the page to a file, whole or not at all.

    Args:
        path: of the file.
        text: of `page`.
        overwrite: whether a file that is there may be replaced.

    Raises:
        FileExistsError: if it may not.
        IsADirectoryError: if it is a folder.
        OSError: if it cannot be written.
    """
    path = Path(path)
    if path.is_dir():
        raise IsADirectoryError(
            f"{path} is a folder, and the page is one file. Name it, as {path / 'playground.html'}."
        )
    if path.exists() and not overwrite:
        raise FileExistsError(f"{path} is there already; nothing was changed. Choose another name, or --overwrite.")
    write_whole(path, text)
