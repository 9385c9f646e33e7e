"""Trained networks that come with the package: the five of the README's table, each a run folder beside this file.

Where a run is asked for, `pretrained:digits` is one. Weights are F16, rounded so that no score changed, and packed by
xz, which takes a sixth less room in an archive; every file is compared with the SHA-256 on its card before it is read.
"""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

from hdnn.names import unknown

PREFIX, WEIGHTS = "pretrained:", "model.safetensors.xz"
_HERE = Path(__file__).parent


def cards() -> dict[str, dict[str, Any]]:
    """What there is: of each network by name "command", "seed", "test_accuracy" and "sha256" of its files.

    Example:
        >>> sorted(cards())
        ['digits', 'double-circles', 'double-moons', 'mnist', 'swiss-roll']
    """
    found: dict[str, dict[str, Any]] = json.loads((_HERE / "cards.json").read_text(encoding="utf-8"))
    return found


def name_of(folder: Path) -> str:
    """The name that stands behind `pretrained:`, "" for folders.

    Example:
        >>> name_of(Path("pretrained:digits")), name_of(Path("runs/digits"))
        ('digits', '')
    """
    return str(folder).removeprefix(PREFIX) if str(folder).startswith(PREFIX) else ""


def place(folder: Path) -> Path:
    """Where the files of a run are: folders as they are, `pretrained:NAME` in the package.

    Raises:
        FileNotFoundError: if there is no network of that name.
        ValueError: if a file is not the one on its card.
    """
    name = name_of(folder)
    if not name:
        return folder
    known = cards()
    if name not in known:
        raise FileNotFoundError(unknown("pretrained network", name, known))
    for file, digest in known[name]["sha256"].items():
        path = _HERE / name / file
        if not path.is_file() or hashlib.sha256(path.read_bytes()).hexdigest() != digest:
            raise ValueError(f"{path} is not the file that came with hdnn: its SHA-256 is another. Install hdnn again.")
    return _HERE / name


def require_other(folder: Path) -> None:
    """See that a folder in which something is to be trained is none of the shelf.

    Raises:
        ValueError: if it is.
    """
    if str(folder).startswith(PREFIX) or folder.absolute().parent == _HERE:
        raise ValueError(
            f"{folder} comes with the package, so nothing is trained there. Name another folder by --output; --like "
            f"begins one of the same kind."
        )


def weights(folder: Path) -> bytes | None:
    """The unpacked weights of a network on the shelf; None for other folders, in which nothing is unpacked.

    Raises:
        OSError: if this Python cannot unpack them.
    """
    packed = folder / WEIGHTS
    if folder.parent != _HERE or not packed.is_file():
        return None
    try:
        import lzma
    except ImportError as error:
        raise OSError("Pretrained networks are packed by xz, which this Python was built without.") from error
    return lzma.decompress(packed.read_bytes())
