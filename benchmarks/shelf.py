"""Make the networks that come with the package of runs: weights rounded, scores compared, cards written.

    hdnn train digits --seed 0 --output runs/digits    and so on, seed 0 each, 30001 for double-circles
    python benchmarks/shelf.py runs --mnist FOLDER     writes src/hdnn/shelf

The seeds are the first of those of the accuracy report, whatever they reached.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import lzma
import shutil
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file

from hdnn import shelf
from hdnn.jobs import evaluate
from hdnn.runs import Run

SHELF = Path(shelf.__file__).parent
_KEPT = ("config.json", "metrics.json", shelf.WEIGHTS)
# Numbers of two bytes: the place within one tells what to expect, the byte before less so.
_XZ = [{"id": lzma.FILTER_LZMA2, "preset": 9 | lzma.PRESET_EXTREME, "lc": 0, "lp": 1, "pb": 0}]


def rounded(weights: torch.Tensor, bits: int) -> torch.Tensor:
    """In half precision, with so many binary digits: files of fewer take less room in an archive."""
    mantissa, exponent = torch.frexp(weights.double())
    return torch.ldexp((mantissa * 2**bits).round() / 2**bits, exponent).half()


def put(run: Run, name: str, mnist: str | None) -> dict[str, object]:
    """Copy one run with as few binary digits of its weights as leave its score, and describe it."""
    folder = SHELF / name
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    shutil.copy(run.folder / "metrics.json", folder)
    command = f"hdnn train {name} --seed {run.config.seed}"
    document = json.loads((run.folder / "config.json").read_text(encoding="utf-8"))
    document["command"] = command
    document["data"]["folder"] = "mnist" if mnist else None  # not a place on the machine that trained it
    (folder / "config.json").write_text(json.dumps(document, indent=2) + "\n", encoding="utf-8")
    weights = load_file(run.folder / "model.safetensors")
    score = evaluate(run.folder, mnist_folder=mnist)["accuracy"]
    for bits in range(5, 12):
        # Whole numbers and signs, as those of J, stay what they are.
        save_file({key: rounded(value, bits) for key, value in weights.items()}, folder / "model.safetensors")
        if evaluate(folder, mnist_folder=mnist)["accuracy"] == score:
            break
    else:
        raise ValueError(f"{name}: its score is another in half precision.")
    plain = folder / "model.safetensors"
    (folder / shelf.WEIGHTS).write_bytes(lzma.compress(plain.read_bytes(), filters=_XZ))
    plain.unlink()
    digests = {file: hashlib.sha256((folder / file).read_bytes()).hexdigest() for file in _KEPT}
    return {"command": command, "seed": run.config.seed, "test_accuracy": score, "sha256": digests}


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("runs", type=Path)
    parser.add_argument("--mnist", metavar="FOLDER")
    given = parser.parse_args()
    cards = {
        folder.name: put(Run.open(folder), folder.name, given.mnist if folder.name == "mnist" else None)
        for folder in sorted(given.runs.iterdir())
    }
    (SHELF / "cards.json").write_text(json.dumps(cards, indent=2) + "\n", encoding="utf-8")
