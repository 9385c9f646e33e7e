"""Trained networks that come with the package: the five of the README's table, each a run folder beside this file.

Where a run is asked for, `pretrained:digits` is one. Weights are F16, rounded so that no score changed, and packed by
xz, which takes a sixth less room in an archive; every file is compared with the SHA-256 on its card before it is read.
Their folders are runs by their paths and as copies, too; packed weights are unpacked only if they are those of a card.
"""

from __future__ import annotations

import hashlib
import json
import os
from pathlib import Path
from typing import Any

from hdnn.names import unknown

PREFIX, WEIGHTS = "pretrained:", "model.safetensors.xz"
_LARGEST_PACKED = 2**20  # bytes; theirs have a tenth of it
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
    """The name that stands behind `pretrained:` or of a folder of the shelf, "" for other folders.

    Example:
        >>> name_of(Path("pretrained:digits")), name_of(Path("runs/digits"))
        ('digits', '')
    """
    if str(folder).startswith(PREFIX):
        return str(folder).removeprefix(PREFIX)
    return Path(os.path.realpath(folder)).name if _is_here(folder) else ""


def place(folder: Path) -> Path:
    """Where the files of a run are: folders as they are, `pretrained:NAME` in the package.

    Raises:
        FileNotFoundError: if there is no network of that name.
        ValueError: if a file is not the one on its card.
    """
    if not str(folder).startswith(PREFIX):
        return folder
    name, known = name_of(folder), cards()
    if name not in known:
        raise FileNotFoundError(unknown("pretrained network", name, known))
    for file, digest in known[name]["sha256"].items():
        path = _HERE / name / file
        if not path.is_file() or hashlib.sha256(path.read_bytes()).hexdigest() != digest:
            raise ValueError(f"{path} is not the file that came with hdnn: its SHA-256 is another. Install hdnn again.")
    return _HERE / name


def require_other(folder: Path, *, resumed: bool = False) -> None:
    """See that a folder in which something is to be trained is none of the shelf, nor a link to one.

    Args:
        folder: to train in.
        resumed: whether a training is to go on there.

    Raises:
        ValueError: if it is.
    """
    if str(folder).startswith(PREFIX) or _is_here(folder):
        if resumed:
            raise ValueError(
                f"{folder} comes with the package and is finished, so nothing is left to resume. Begin one of the same "
                f"kind: `hdnn train --like {PREFIX}{name_of(folder)}`."
            )
        raise ValueError(
            f"{folder} comes with the package, so nothing is trained there. Name another folder by --output; --like "
            f"begins one of the same kind."
        )


def weights(folder: Path) -> bytes | None:
    """The unpacked weights of a network on the shelf or of a copy of one; None for folders without packed weights.

    In other folders, weights that are not packed come first: a copy may have been trained anew.

    Raises:
        ValueError: if they are not those of a card: what is unpacked is bounded by that.
        OSError: if they cannot be read, or this Python cannot unpack them.
    """
    packed = folder / WEIGHTS
    if not packed.is_file() or (not _is_here(folder) and packed.with_suffix("").is_file()):
        return None
    with packed.open("rb") as stream:
        content = stream.read(_LARGEST_PACKED)
    if hashlib.sha256(content).hexdigest() not in {card["sha256"][WEIGHTS] for card in cards().values()}:
        raise ValueError(
            f"{packed} holds none of the weights that come with hdnn, by its SHA-256, and no others are unpacked. If "
            f"you trust it, unpack it there: `xz -d {WEIGHTS}`."
        )
    try:
        import lzma
    except ImportError as error:
        raise OSError("Pretrained networks are packed by xz, which this Python was built without.") from error
    return lzma.decompress(content)


def _is_here(folder: Path) -> bool:
    """Whether a folder is on the shelf, whatever path leads there; `Path.resolve` would raise at circles of links."""
    return Path(os.path.realpath(folder)).is_relative_to(os.path.realpath(_HERE))
