"""Train recurrent networks on the usual tasks of long memory: python benchmarks/sequences.py TASK [--model h2] ...

Tasks: `adding` (T steps; two marked numbers to be added), `smnist` and `psmnist` (784 pixels, in order or permuted, one
a step), `mnist1d` (package mnist1d, 40 steps). Models: those of `hdnn.HamiltonianRNN`, `gru` and `lstm` of PyTorch, and
`signals`, a network of convolutions. The last tenth of the training data is for choices, and `--final` trains on it as
well; the test data are scored once, after the last step. A run writes its state into --store every minute and goes on
from there, bit for bit.
"""

from __future__ import annotations

import argparse
import ctypes
import json
import math
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional

import hdnn
from hdnn.data.idx import read_idx

MINUTE = 60.0


class Data(NamedTuple):
    """Sequences (T, s, d) and what to say of each, as loss and score know it."""

    x: Tensor
    y: Tensor

    def part(self, chosen: Tensor | slice) -> Data:
        """Some of the samples."""
        return Data(self.x[:, chosen], self.y[chosen])


class Model(nn.Module):
    """States of a recurrent network, read out by a linear layer, behind a norm and an h2 flow where asked.

    Read is the last state, the mean of all, or all of them side by side.
    """

    def __init__(self, options: argparse.Namespace, inputs: int, outputs: int, steps: int) -> None:
        super().__init__()
        n = options.units
        if options.model in ("gru", "lstm"):
            self.core: nn.Module = {"gru": nn.GRU, "lstm": nn.LSTM}[options.model](inputs, n)
        else:
            self.core = hdnn.HamiltonianRNN(
                inputs, n, model=options.model, step=options.step, damping=options.damping, init_std=options.init_std,
                activation=options.activation, frequencies=options.frequencies,
            )  # fmt: skip
            with torch.no_grad():
                for cell in self.core.cells:
                    cell.input_weight.mul_(options.input_scale)
                    cell.bias.mul_(options.bias_scale)
                if options.slow != 1 and options.model == "h2":  # q nearly rests, and p adds up what inputs do
                    self.core.cells[0].weight[:, 0].mul_(options.slow)
        self.seen = options.seen
        self.norm = nn.LayerNorm(n) if options.norm else nn.Identity()
        self.read = hdnn.h2(n, options.readout, step=0.5) if options.readout else nn.Identity()
        self.out = nn.Linear(n * steps if options.seen == "all" else n, outputs)

    def forward(self, u: Tensor) -> Tensor:
        """Answers (B, outputs) for sequences (T, B, d)."""
        states, _ = self.core(u)
        if self.seen == "all":
            found: Tensor = self.norm(states).transpose(0, 1).flatten(1)
        else:
            found = self.read(self.norm(states[-1] if self.seen == "last" else states.mean(0)))
        result: Tensor = self.out(found)
        return result


class Convolutions(nn.Module):
    """An `h2` network of signals in stages, which sees the steps of a sequence as positions on a line."""

    def __init__(self, options: argparse.Namespace, inputs: int, outputs: int) -> None:
        super().__init__()
        sizes = (options.units, 2 * options.units, 4 * options.units)
        chosen = {"step": options.step, "space": hdnn.Signals(options.taps), "activation": options.activation}
        flows = [hdnn.h2(n, options.layers, **chosen) for n in sizes]
        made = hdnn.signal_classifier if outputs > 1 else hdnn.signal_regressor
        self.core = made(inputs, outputs, flows)

    def forward(self, u: Tensor) -> Tensor:
        """Answers (B, outputs) for sequences (T, B, d)."""
        answers: Tensor = self.core(u.permute(1, 2, 0))
        return answers


def adding(count: int, steps: int, generator: torch.Generator) -> Data:
    """Numbers of U(0, 1), one marked in each half; their sum. The constant 1 has a mean square error of 1/6."""
    values, marks = torch.rand(steps, count, generator=generator), torch.zeros(steps, count)
    half = steps // 2
    for low, high in ((0, half), (half, steps)):
        marks[torch.randint(low, high, (count,), generator=generator), torch.arange(count)] = 1
    return Data(torch.stack((values, marks), -1), (values * marks).sum(0).unsqueeze(1))


def mnist(folder: Path, permuted: bool, coarse: int = 1) -> tuple[Data, Data, Data]:
    """Training, validation (the last 6,000 training images) and test images, one pixel a step."""
    order = torch.randperm(784 // coarse**2, generator=torch.Generator().manual_seed(92916)) if permuted else None
    parts = []
    for name in ("train", "t10k"):
        images = torch.as_tensor(read_idx(folder / f"{name}-images-idx3-ubyte.gz")).float() / 255
        labels = torch.as_tensor(read_idx(folder / f"{name}-labels-idx1-ubyte.gz")).long()
        images = functional.avg_pool2d(images.unsqueeze(1), coarse) if coarse > 1 else images
        x = ((images.flatten(1) - 0.1307) / 0.3081).T.contiguous()
        parts.append(Data((x if order is None else x[order]).unsqueeze(-1), labels))
    return parts[0].part(slice(54000)), parts[0].part(slice(54000, None)), parts[1]


def mnist1d() -> tuple[Data, Data, Data]:
    """40 steps; the data set of the package with its default arguments."""
    from mnist1d.data import get_dataset_args, make_dataset

    found = make_dataset(get_dataset_args())
    train, test = (
        Data(torch.as_tensor(found[x]).float().T.unsqueeze(-1), torch.as_tensor(found[y]).long())
        for x, y in (("x", "y"), ("x_test", "y_test"))
    )
    return train.part(slice(3600)), train.part(slice(3600, None)), test


class Task(NamedTuple):
    """What is trained on, and how answers are scored: in percent of right ones, or as a mean square error."""

    train: Data | None
    validation: Data
    test: Data
    outputs: int


def task_of(options: argparse.Namespace) -> Task:
    """The data of a task, made or read."""
    if options.task == "adding":
        generator = torch.Generator().manual_seed(10**6)
        return Task(None, *(adding(1000, options.length, generator) for _ in range(2)), 1)
    sets = mnist1d() if options.task == "mnist1d" else mnist(options.mnist, options.task == "psmnist", options.coarse)
    train, validation, test = sets
    if options.final:
        train = Data(torch.cat((train.x, validation.x), 1), torch.cat((train.y, validation.y)))
    return Task(train, validation, test, 10)


def loss_of(output: Tensor, y: Tensor, smoothing: float) -> Tensor:
    """Mean square error of numbers, cross-entropy of classes."""
    if y.is_floating_point():
        return functional.mse_loss(output, y)
    return functional.cross_entropy(output, y, label_smoothing=smoothing)


@torch.no_grad()
def scored(model: nn.Module, data: Data) -> float:
    """Percent of right answers, or the mean square error."""
    model.eval()
    outputs = torch.cat([model(x) for x in data.x.split(500, 1)])
    model.train()
    if data.y.is_floating_point():
        return float(functional.mse_loss(outputs, data.y))
    return 100 * float((outputs.argmax(-1) == data.y).float().mean())


def batches(task: Task, options: argparse.Namespace, start: int) -> Iterator[tuple[int, Data]]:
    """From step `start` on; an order of its own every epoch."""
    for step in range(start, options.steps):
        if task.train is None:
            generator = torch.Generator().manual_seed(options.seed * 10**7 + step)
            yield step, adding(options.batch, options.length, generator)
            continue
        per_epoch = len(task.train.y) // options.batch
        epoch, place = divmod(step, per_epoch)
        generator = torch.Generator().manual_seed(options.seed * 10**5 + epoch)
        order = torch.randperm(len(task.train.y), generator=generator)
        yield step, task.train.part(order[place * options.batch : (place + 1) * options.batch])


def rate(options: argparse.Namespace, step: int) -> float:
    """Warm-up over a twentieth, then a cosine to zero."""
    warm = max(1, options.steps // 20)
    return float(min(1, (step + 1) / warm) * 0.5 * (1 + math.cos(math.pi * step / options.steps)))


def groups(model: Any, options: argparse.Namespace) -> list[dict[str, Any]]:
    """All parameters, each with the share of the rate that those of its kind get: K, V with b, and all others."""
    shares = {".weight": options.recurrent_rate, ".input_weight": options.input_rate, ".bias": options.input_rate}
    found: dict[float, list[nn.Parameter]] = {1.0: []}
    for name, parameter in model.named_parameters():
        kind = next((k for k in shares if name.startswith("core.cells.") and name.endswith(k)), None)
        found.setdefault(shares[kind] if kind else 1.0, []).append(parameter)
    return [{"params": chosen, "share": share} for share, chosen in found.items()]


def run(options: argparse.Namespace) -> dict[str, object]:
    """Train and score once."""
    torch.manual_seed(options.seed)
    task = task_of(options)
    steps, _, inputs = task.validation.x.shape
    model: Any = (
        Convolutions(options, inputs, task.outputs)
        if options.model == "signals"
        else Model(options, inputs, task.outputs, steps)
    )
    if options.model != "signals" and (options.norm or options.readout):  # the first steps are those of the readout
        nn.init.zeros_(model.out.weight)
        nn.init.zeros_(model.out.bias)
    if options.begin:
        model.load_state_dict(torch.load(options.begin, weights_only=True)["model"])
    optimizer = torch.optim.AdamW(groups(model, options), lr=options.rate, weight_decay=options.weight_decay)
    start, seconds, cpu = 0, 0.0, 0.0
    history: list[tuple[float | None, ...]] = []
    if options.store and options.store.exists():
        state = torch.load(options.store, weights_only=True)
        model.load_state_dict(state["model"])
        shares = [group["share"] for group in optimizer.param_groups]
        optimizer.load_state_dict(state["optimizer"])
        for group, share in zip(optimizer.param_groups, shares, strict=True):
            group["share"] = share
        start, seconds, cpu, history = state["step"], state["seconds"], state["cpu"], state["history"]
    began, began_cpu, saved = time.monotonic(), time.process_time(), time.monotonic()

    def spent() -> tuple[float, float]:
        return seconds + time.monotonic() - began, cpu + time.process_time() - began_cpu

    running = None
    for step, batch in batches(task, options, start):
        for group in optimizer.param_groups:
            group["lr"] = options.rate * group["share"] * rate(options, step)
        loss = loss_of(model(batch.x), batch.y, options.smoothing)
        optimizer.zero_grad()
        loss.backward()
        norm = nn.utils.clip_grad_norm_(model.parameters(), options.clip)
        optimizer.step()
        now = float(loss.detach())
        running = now if running is None else 0.98 * running + 0.02 * now
        if (step + 1) % options.look == 0 or step + 1 == options.steps:
            found = None if options.final else scored(model, task.validation)
            history.append((step + 1, running, found, *spent()))
            print(*(f"{x:.6g}" for x in history[-1] if x is not None), f"gradient {float(norm):.3g}", flush=True)
        if options.store and (time.monotonic() - saved > MINUTE or step + 1 == options.steps):
            saved = time.monotonic()
            wall, own = spent()
            state = {
                "model": model.state_dict(), "optimizer": optimizer.state_dict(), "step": step + 1,
                "seconds": wall, "cpu": own, "history": history,
            }  # fmt: skip
            torch.save(state, options.store.with_suffix(".new"))
            options.store.with_suffix(".new").rename(options.store)
    wall, own = spent()
    validation = None if options.final else scored(model, task.validation)
    chosen = {k: str(v) if isinstance(v, Path) else v for k, v in vars(options).items()}
    return {
        **chosen, "parameters": sum(p.numel() for p in model.parameters()), "minutes": wall / 60,
        "cpu_minutes": own / 60, "validation": validation, "history": history,
        "test": None if options.no_test else scored(model, task.test),
    }  # fmt: skip


def keep_memory() -> None:
    """Let freed memory stay with the process: a sequence's states are large, and fresh pages cost a third of a step."""
    try:
        libc = ctypes.CDLL("libc.so.6")
    except OSError:  # another system
        return
    for option, value in ((-3, 1 << 30), (-1, (1 << 31) - 1), (-2, 1 << 28)):
        libc.mallopt(option, value)


def pair(text: str) -> tuple[float, float]:
    """Two numbers with a comma between them."""
    low, high = text.split(",")
    return float(low), float(high)


def parsed() -> argparse.Namespace:
    """The choices of the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("task", choices=["adding", "smnist", "psmnist", "mnist1d"])
    parser.add_argument("--model", default="h2", help="of `hdnn.HamiltonianRNN`, gru, lstm, or signals")
    parser.add_argument("--units", type=int, default=128)
    parser.add_argument("--step", type=float, default=0.05)
    parser.add_argument("--damping", type=float)
    parser.add_argument("--init-std", type=float)
    parser.add_argument("--activation", default="tanh")
    parser.add_argument("--recurrent-rate", type=float, default=1.0, help="share of the rate that the recurrent K gets")
    parser.add_argument("--input-rate", type=float, default=1.0, help="share of the rate that V and b get")
    parser.add_argument("--input-scale", type=float, default=1.0)
    parser.add_argument("--bias-scale", type=float, default=1.0)
    parser.add_argument("--norm", action="store_true", help="layer norm of the last state")
    parser.add_argument("--readout", type=int, default=0, help="layers of an h2 flow between last state and output")
    parser.add_argument("--seen", choices=["last", "mean", "all"], default="last", help="states that are read out")
    parser.add_argument("--layers", type=int, default=4, help="of each stage of the model `signals`")
    parser.add_argument("--taps", type=int, default=5, help="of the convolutions of the model `signals`")
    parser.add_argument("--slow", type=float, default=1.0, help="factor of the initial K_p of h2, which moves q")
    parser.add_argument(
        "--frequencies",
        type=pair,
        metavar="LOW,HIGH",
        help="begin h2 as oscillators of so many radians a step, each unit alone",
    )
    parser.add_argument("--length", type=int, default=1000)
    parser.add_argument("--coarse", type=int, default=1, help="pool images first, for quick trials")
    parser.add_argument("--steps", type=int, default=4210)
    parser.add_argument("--batch", type=int, default=128)
    parser.add_argument("--rate", type=float, default=0.004)
    parser.add_argument("--weight-decay", type=float, default=0.0)
    parser.add_argument("--smoothing", type=float, default=0.0, help="of labels")
    parser.add_argument("--clip", type=float, default=1.0)
    parser.add_argument("--look", type=int, default=100, help="steps between two looks at the validation part")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--mnist", type=Path, default=Path("mnist"))
    parser.add_argument("--begin", type=Path, help="start from the weights in the store of another run")
    parser.add_argument("--store", type=Path)
    parser.add_argument("--final", action="store_true", help="train on the part for choices too")
    parser.add_argument("--no-test", action="store_true")
    parser.add_argument("--out", type=Path, help="a JSON file that gets the result as one more line")
    return parser.parse_args()


def main() -> None:
    """One run, on one thread."""
    torch.set_num_threads(1)
    keep_memory()
    options = parsed()
    result = run(options)
    print(json.dumps({k: v for k, v in result.items() if k != "history"}))
    if options.out:
        with options.out.open("a") as file:
            file.write(json.dumps(result) + "\n")


if __name__ == "__main__":
    main()
