"""Classify real time series with their official splits, beside recurrent networks of PyTorch of as many parameters.

    python benchmarks/time_series.py FOLDER --output FILE.md

FOLDER holds NAME_TRAIN.ts and NAME_TEST.ts, such as those in aeon's wheel. Every model gets the same few trials of its
own choices, a learning rate and (of ours) a damping, judged on the last fourth of the training part alone, by the mean
of two seeds; then it is trained on all of it with five seeds, and the test part is scored once for each.
"""

from __future__ import annotations

import argparse
import itertools
import json
import statistics
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

import hdnn
from hdnn.data import Series, read_ts
from hdnn.estimator.sequences import Padded

NAMES = ("GunPoint", "ItalyPowerDemand", "BasicMotions", "JapaneseVowels")
# As many trials for all: rates for PyTorch's, rates and dampings for ours.
RATES = (0.001, 0.002, 0.004, 0.008, 0.016, 0.032)
OURS = tuple(itertools.product((0.004, 0.008, 0.016), (None, 0.2)))
UNITS = 64
MODELS = ("h2", "gru", "lstm")


def core(model: str, inputs: int, step: float, damping: float | None) -> nn.Module:
    """A recurrent network; those of PyTorch with as many units as give about the parameters of ours."""
    ours = hdnn.HamiltonianRNN(inputs, UNITS, step=step, damping=damping)
    if model == "h2":
        return ours
    wanted, kind = parameters(ours), {"gru": nn.GRU, "lstm": nn.LSTM}[model]
    return kind(inputs, min(range(4, UNITS), key=lambda n: abs(parameters(kind(inputs, n)) - wanted)))


def parameters(module: nn.Module) -> int:
    """How many numbers are trained."""
    return sum(p.numel() for p in module.parameters())


def tensors(series: Series, mean: Any, scale: Any, labels: list[str]) -> tuple[tuple[Tensor, Tensor], Tensor]:
    """Sequences in units of the training part, their lengths, their classes."""
    padded = Padded([(values - mean) / scale for values in series.values])
    x = torch.from_numpy(padded.values).float(), torch.from_numpy(padded.lengths)
    assert series.targets is not None
    return x, torch.tensor([labels.index(label) for label in series.targets])


def trained(model: str, choice: Any, seed: int, x: Any, y: Tensor, classes: int, epochs: int) -> nn.Module:
    """A network after so many epochs."""
    rate, damping = choice
    torch.manual_seed(seed)
    network = hdnn.sequence_classifier(core(model, x[0].shape[2], 20 / x[0].shape[1], damping), classes)
    recipe = hdnn.Recipe(epochs=epochs, batch_size=16, learning_rate=rate, optimizer="adamw", clip=1.0, seed=seed)
    hdnn.fit(network, x, y, recipe)
    return network


@torch.no_grad()
def accuracy(network: nn.Module, x: Any, y: Tensor) -> float:
    """In percent."""
    output = network.eval()(*x)
    found = (output.squeeze(-1) > 0).long() if output.shape[-1] == 1 else output.argmax(-1)
    return 100 * float((found == y).double().mean())


def of_set(folder: Path, name: str, epochs: int) -> list[dict[str, Any]]:
    """All models on one set."""
    train, test = (next(folder.rglob(f"{name}_{part}.ts")) for part in ("TRAIN", "TEST"))
    train, test = read_ts(train), read_ts(test)
    steps = np.concatenate(train.values)
    mean, scale, labels = steps.mean(0), steps.std(0), sorted(set(train.targets.tolist()))
    (x, y), (x_test, y_test) = (tensors(each, mean, scale, labels) for each in (train, test))
    order = torch.randperm(len(y), generator=torch.Generator().manual_seed(0))
    cut = len(y) - len(y) // 4
    fit_part, look = order[:cut], order[cut:]
    found = []
    for model in MODELS:
        choices = list(OURS) if model == "h2" else [(rate, None) for rate in RATES]
        scores = {}
        for choice in choices:
            tried = [
                trained(model, choice, 100 + s, tuple(part[fit_part] for part in x), y[fit_part], len(labels), epochs)
                for s in range(2)
            ]
            scores[choice] = statistics.mean(accuracy(n, tuple(part[look] for part in x), y[look]) for n in tried)
        best = max(choices, key=lambda choice: scores[choice])
        networks = [trained(model, best, seed, x, y, len(labels), epochs) for seed in range(5)]
        tests = [accuracy(network, x_test, y_test) for network in networks]
        found.append(
            {
                "set": name, "model": model, "choice": best, "trials": len(choices), "test": tests,
                "mean": statistics.mean(tests), "std": statistics.stdev(tests), "parameters": parameters(networks[0]),
            }
        )  # fmt: skip
        print(json.dumps(found[-1]), flush=True)
    return found


def main() -> None:
    """Measure, print, write."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--epochs", type=int, default=60)
    parser.add_argument("--sets", nargs="*", default=list(NAMES))
    parser.add_argument("--output", type=Path)
    options = parser.parse_args()
    torch.set_num_threads(1)
    rows = ["| set | model | parameters | test, % | choice | trials |", "|---|---|---|---|---|---|"]
    for name in options.sets:
        for r in of_set(options.folder, name, options.epochs):
            score = f"{r['mean']:.2f} ± {r['std']:.2f}"
            rows.append(
                f"| {r['set']} | {r['model']} | {r['parameters']:,} | {score} | {r['choice']} | {r['trials']} |"
            )
        if options.output:
            options.output.write_text("\n".join(rows) + "\n")
    print("\n".join(rows))


if __name__ == "__main__":
    main()
