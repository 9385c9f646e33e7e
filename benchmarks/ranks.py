"""Whether 2 and 4 ranks give what one process gives, on every kind of space, and what they exchange for it.

    python benchmarks/ranks.py --output benchmarks/results/DATE-ranks.md

The same model trains by `fit` in one process, on 2 and on 4 ranks (gloo, on this machine), in float64, from the same
weights, on rows of which the last batch has one alone. Shown is the largest difference of any weight or running moment
at the end. All ranks of a number must end in the same bits. Then a step of networks of pictures, float32, batches of
128 random pictures of their sizes: the time of the processor that a process spends, and how often and how many bytes it
sends. Two ranks on two cores gain at most what a rank spends less; that is no time on the clock, which nothing but
cores of their own can show.
"""

from __future__ import annotations

import argparse
import resource
import tempfile
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

import hdnn
import machine
from forking import forked, joined
from hdnn import ranks
from hdnn.training import fitting

FEATURES, ROWS, NODES, STEPS = 4, 17, 5, 20
LINE = torch.tensor([[0, 1, 1, 2, 2, 3, 3, 4], [1, 0, 2, 1, 3, 2, 4, 3]])
MEET: list[ranks.Ranks | None] = []


class Model(nn.Module):
    """A learned lift, a flow and a mean over the positions."""

    def __init__(self, lift: nn.Module, flow: hdnn.Flow) -> None:
        super().__init__()
        self.lift, self.flow, self.head = lift, flow, nn.Linear(FEATURES, 1)

    def forward(self, x: Tensor, **call: Tensor) -> Tensor:
        """One number a row."""
        y = self.flow(self.lift(x), **call).movedim(self.flow.space.axis, -1)
        said: Tensor = self.head(y.flatten(1, -2).mean(1))
        return said


def models() -> Iterator[tuple[str, str, Callable[[], nn.Module], Tensor, dict[str, Any]]]:
    """Space, memory, maker, inputs and what calls bring."""
    generator = torch.Generator().manual_seed(0)
    nodes, images, signals = (
        torch.randn(ROWS, *shape, generator=generator) for shape in ((NODES, 2), (2, 5, 6), (2, 7))
    )
    edges = {"edge_index": LINE, "edge_weight": torch.rand(LINE.shape[1], generator=generator)}
    for memory in (None, "recompute", "reverse"):
        how: Any = {"step": 0.2, "memory": memory, "backend": "eager"}
        word = memory or "store"
        yield "vectors", word, lambda h=how: Model(nn.Linear(2, 4), hdnn.h2(4, 3, **h)), nodes, {}
        yield "graphs", word, lambda h=how: Model(nn.Linear(2, 4), hdnn.h2(4, 3, space=hdnn.Graph(), **h)), nodes, edges
        yield "images", word, lambda h=how: Model(nn.Conv2d(2, 4, 3), hdnn.h2(4, 3, kernel_size=3, **h)), images, {}
        yield (
            "signals",
            word,
            lambda h=how: Model(nn.Conv1d(2, 4, 1), hdnn.ms3(4, 3, space=hdnn.Signals(3), **h)),
            signals,
            {},
        )
        for kind in ("units", "batch"):
            yield f'image network, "{kind}"', word, lambda k=kind, m=memory: stages(k, m), images[:9, :, :4, :4], {}
    yield "vectors", "native", lambda: Model(nn.Linear(2, 4), hdnn.h2(4, 3, step=0.2)), nodes, {}


def stages(normalization: Any, memory: Any) -> nn.Module:
    """An image network of two stages, with batch norm before its head."""
    made = hdnn.image_network((1, 1), (4, 6), classes=2, inputs=2, normalization=normalization, memory=memory)
    return nn.Sequential(made.to(torch.get_default_dtype()), nn.Linear(made.head.out_features, 1))


def trained() -> dict[str, dict[str, Tensor]]:
    """The weights of all models after their trainings."""
    found = {}
    torch.set_default_dtype(torch.float64)
    for space, memory, make, x, call in models():
        torch.manual_seed(1)
        model = make()
        recipe = hdnn.Recipe(epochs=2, batch_size=8, learning_rate=0.05, optimizer="sgd")
        y = x.flatten(1).sum(1, keepdim=True)
        hdnn.fit(model, x, y, recipe, nn.functional.mse_loss, call=call)
        found[f"{space}|{memory}"] = {name: value.clone() for name, value in model.state_dict().items()}
    torch.set_default_dtype(torch.float32)
    return found


def pictured(kernel_size: int) -> nn.Module:
    """A network of MNIST."""
    return hdnn.image_classifier(1, (28, 28), 10, hdnn.h2(8, 4, step=0.5, kernel_size=kernel_size))


def costs() -> dict[str, list[float]]:
    """Of a step: seconds of the processor, exchanges and bytes."""
    found = {}
    cases = {
        "MNIST, pointwise": (lambda: pictured(1), (1, 28, 28)),
        "MNIST, convolutional": (lambda: pictured(3), (1, 28, 28)),
        'image network, "units"': (lambda: hdnn.image_network((2, 2), (8, 16), classes=10, inputs=3), (3, 16, 16)),
    }
    for name, (make, shape) in cases.items():
        torch.manual_seed(0)
        x, y = torch.randn(128 * STEPS, *shape), torch.randint(10, (128 * STEPS,))
        fit = lambda: hdnn.fit(make(), x, y, hdnn.Recipe(epochs=1, batch_size=128), backend="torch")  # noqa: B023, E731
        fit()
        MEET.clear()
        before = resource.getrusage(resource.RUSAGE_SELF)
        fit()
        after = resource.getrusage(resource.RUSAGE_SELF)
        met = next((each for each in MEET if each is not None), None)
        seconds = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
        found[name] = [seconds / STEPS, met.rounds / STEPS if met else 0, met.bytes / STEPS if met else 0]
    return found


def run(rank: int, count: int, folder: Path) -> None:
    """One rank."""
    torch.set_num_threads(1)
    if count > 1:
        meeting = f"file://{folder}/meeting-{count}"
        torch.distributed.init_process_group("gloo", init_method=meeting, rank=rank, world_size=count)
    look = fitting.present

    def noted() -> ranks.Ranks | None:
        MEET.append(look())
        return MEET[-1]

    fitting.present = noted
    torch.save((trained(), costs()), folder / f"{count}-{rank}.pt")


def main() -> None:
    """Compare and count."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--output", type=Path)
    chosen = parser.parse_args()
    machine.require_folder(chosen.output)
    known, numbers = machine.facts(), (1, 2, 4)
    with tempfile.TemporaryDirectory() as name:
        for count in numbers:
            joined([forked(partial(run, rank, count, Path(name))) for rank in range(count)])
        left = {
            (count, rank): torch.load(Path(name) / f"{count}-{rank}.pt") for count in numbers for rank in range(count)
        }
    weights = {key: found[0] for key, found in left.items()}
    for (count, _), found in weights.items():
        for key, of_case in found.items():
            assert all(torch.equal(value, weights[count, 0][key][one]) for one, value in of_case.items()), key
    one = weights[1, 0]
    apart = {
        (count, key): max(float((weights[count, 0][key][n] - v).abs().max()) for n, v in of_case.items() if v.numel())
        for count in numbers[1:]
        for key, of_case in one.items()
    }
    rows = [[*key.split("|"), *(f"{apart[count, key]:.1e}" for count in numbers[1:])] for key in one]
    spent = [
        [case, count, *_cost([left[count, rank][1][case] for rank in range(count)])]
        for case in left[1, 0][1]
        for count in numbers
    ]
    lines = [
        *machine.head("Ranks that share batches", known),
        "",
        " ".join(str(__doc__).split("\n\n")[2].split()),
        "",
        *machine.table(["space", "memory", "2 ranks against one", "4 ranks against one"], rows),
        "",
        *machine.table(["a step", "ranks", "ms of the processor, a rank", "exchanges", "KiB sent by a rank"], spent),
    ]
    machine.publish(chosen.output, lines, {**known, "apart": rows, "costs": spent})


def _cost(of_ranks: list[list[float]]) -> list[str]:
    seconds = sum(each[0] for each in of_ranks) / len(of_ranks)
    return [f"{1e3 * seconds:.1f}", f"{of_ranks[0][1]:.1f}", f"{of_ranks[0][2] / 1024:.1f}"]


if __name__ == "__main__":
    main()
