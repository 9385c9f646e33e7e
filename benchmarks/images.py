"""Train networks in stages on images: python benchmarks/images.py mnist [--normalization units] [--seed 0] ...

Data: `mnist` (the last 6,000 training images are for choices) and `cifar10` (batch 5 is held out as the test part, the
last 2,000 images of batch 4 are for choices). Networks: `stages`, the reversible Hamiltonian network of Chang et al.;
`--without-flows`, the same one with its flows taken out; `resnet`, one of as many multiply-adds. `--final` trains on
the images for choices too, and scores the test part once, after the last step. A run writes its state into --store
every minute and goes on from there, bit for bit. `--curve` trains both on 500 to 10,000 images, three seeds each, at
most 1,500 steps a run, and adds a line to --out after each; what is there already is not done again.
"""

from __future__ import annotations

import argparse
import itertools
import json
import lzma
import math
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

import hdnn
from hdnn.data.idx import read_idx
from image_networks import multiply_adds, parameters, resnet, without_flows
from sequences import MINUTE, keep_memory


class Images(NamedTuple):
    """Bytes (s, C, H, W) and labels (s,)."""

    x: Tensor
    y: Tensor

    def part(self, chosen: Tensor | slice) -> Images:
        """Some of the images."""
        return Images(self.x[chosen], self.y[chosen])


class Task(NamedTuple):
    """What is trained on, chosen by and scored on, and how images are changed by chance."""

    train: Images
    validation: Images
    test: Images
    mean: Tensor
    std: Tensor
    shift: int
    border: str
    mirrored: bool

    def to(self, device: str) -> Task:
        """The same on a device."""
        parts = [Images(*(x.to(device) for x in part)) for part in self[:3]]
        return Task(*parts, self.mean.to(device), self.std.to(device), *self[5:])

    def numbers(self, x: Tensor) -> Tensor:
        """Bytes, standardised by the training part, channels last."""
        return ((x.float() / 255 - self.mean) / self.std).contiguous(memory_format=torch.channels_last)


def mnist(folder: Path) -> tuple[Images, int, Images]:
    """All training images, the number of those for choices, and the test images."""
    parts = []
    for name in ("train", "t10k"):
        images = torch.as_tensor(read_idx(folder / f"{name}-images-idx3-ubyte.gz")).unsqueeze(1)
        parts.append(Images(images, torch.as_tensor(read_idx(folder / f"{name}-labels-idx1-ubyte.gz")).long()))
    return parts[0], 6000, parts[1]


def cifar10(folder: Path) -> tuple[Images, int, Images]:
    """Batches 1 to 4, the number of those for choices, and batch 5."""
    parts = []
    for k in range(1, 6):
        file = next(path for end in ("", ".xz") if (path := folder / f"data_batch_{k}.bin{end}").exists())
        content = lzma.decompress(file.read_bytes()) if file.suffix == ".xz" else file.read_bytes()
        records = np.frombuffer(content, np.uint8).reshape(-1, 3073)
        x = torch.from_numpy(records[:, 1:].reshape(-1, 3, 32, 32).copy())
        parts.append(Images(x, torch.from_numpy(records[:, 0].astype(np.int64))))
    return Images(*(torch.cat(values) for values in zip(*parts[:4], strict=True))), 2000, parts[4]


def task_of(options: argparse.Namespace) -> Task:
    """The data of a task."""
    images, held, test = {"mnist": mnist, "cifar10": cifar10}[options.task](options.folder)
    split = len(images.y) - held
    train = images if options.final else images.part(slice(split))
    if options.images:  # as many of each class, drawn by the seed
        generator = torch.Generator().manual_seed(options.seed)
        order = torch.randperm(split, generator=generator)
        found = [order[images.y[order] == k][: options.images // 10] for k in range(10)]
        train = images.part(torch.cat(found))
    axes = (0, 2, 3)
    std, mean = torch.std_mean(train.x.float() / 255, axes, keepdim=True)
    grey = options.task == "mnist"
    more = (2, "constant", False) if grey else (4, "reflect", True)
    return Task(train, images.part(slice(split, None)), test, mean, std, *more)


def changed(x: Tensor, task: Task, generator: torch.Generator) -> Tensor:
    """Images moved by up to `shift` pixels, and mirrored every other time where that is the same thing."""
    (n, c, h, w), far = x.shape, task.shift
    wide = functional.pad(x.float(), (far,) * 4, mode=task.border)
    down, right = torch.randint(0, 2 * far + 1, (2, n, 1), generator=generator)
    rows, columns = down + torch.arange(h), right + torch.arange(w)
    if task.mirrored:
        columns = torch.where(torch.rand(n, 1, generator=generator) < 0.5, columns.flip(1), columns)
    rows, columns = rows.to(x.device), columns.to(x.device)
    image = torch.arange(n, device=x.device)[:, None, None, None]
    channel = torch.arange(c, device=x.device)[None, :, None, None]
    return wide[image, channel, rows[:, None, :, None], columns[:, None, None, :]]


def model_of(options: argparse.Namespace, task: Task) -> nn.Module:
    """The network, or the ResNet of the number of multiply-adds that is nearest to its own."""
    inputs = task.train.x.shape[1]
    kind = None if options.normalization == "none" else options.normalization
    sizes = (options.units, options.channels)
    stages = hdnn.image_network(*sizes, inputs=inputs, normalization=kind, step=options.step, memory=options.memory)
    if options.without_flows:
        return without_flows(stages)
    if options.model == "stages":
        return stages
    if options.model == "resnet32":
        return resnet(16, 5, inputs)
    two = task.numbers(task.test.x[:2])
    size = parameters if options.equal == "parameters" else lambda made: multiply_adds(made, two)[0]
    wanted = size(stages)
    found = [resnet(width, options.blocks, inputs) for width in range(2, 65)]
    return min(found, key=lambda made: abs(size(made) - wanted))


def decayed(model: nn.Module, options: argparse.Namespace) -> list[dict[str, Any]]:
    """Weights, which decay, and gains, shifts and biases, which do not."""
    kinds: dict[bool, list[nn.Parameter]] = {True: [], False: []}
    for name, parameter in model.named_parameters():
        kinds[name.rpartition(".")[2] == "weight" and parameter.dim() > 1].append(parameter)
    return [{"params": kinds[True], "weight_decay": options.decay}, {"params": kinds[False], "weight_decay": 0.0}]


def optimizer_of(model: nn.Module, options: argparse.Namespace) -> torch.optim.Optimizer:
    """Of the name that was chosen."""
    if options.optimizer == "sgd":
        return torch.optim.SGD(decayed(model, options), options.rate, momentum=0.9, nesterov=True)
    return torch.optim.AdamW(decayed(model, options), options.rate)


def share(step: int, steps: int, warm: float) -> float:
    """One cycle: of the largest rate, from a twenty-fifth up to it and down to nothing, each a half cosine."""
    rise = max(1.0, warm * steps)
    if step < rise:
        return 1 - 0.96 * 0.5 * (1 + math.cos(math.pi * step / rise))
    return 0.5 * (1 + math.cos(math.pi * (step - rise) / (steps - rise)))


def batches(task: Task, options: argparse.Namespace, steps: int, start: int) -> Iterator[tuple[int, Tensor, Tensor]]:
    """From step `start` on; an order of its own every epoch, and changes of its own every step."""
    count = len(task.train.y)
    size = min(options.batch, count)
    order, drawn = torch.empty(0), -1
    for step in range(start, steps):
        epoch, place = divmod(step, count // size)
        if epoch != drawn:
            generator = torch.Generator().manual_seed(options.seed * 10**5 + epoch)
            order, drawn = torch.randperm(count, generator=generator), epoch
        chosen = task.train.part(order[place * size : (place + 1) * size].to(task.train.y.device))
        generator = torch.Generator().manual_seed(options.seed * 10**7 + step)
        yield step, task.numbers(changed(chosen.x, task, generator)), chosen.y


@torch.no_grad()
def scored(model: nn.Module, task: Task, images: Images) -> float:
    """Percent of right answers, in evaluation mode and float32."""
    mode = model.training
    model.eval()
    right = sum(
        int((model(task.numbers(x)).argmax(-1) == y).sum())
        for x, y in zip(images.x.split(500), images.y.split(500), strict=True)
    )
    model.train(mode)
    return 100 * right / len(images.y)


class Training:
    """A model, what moves it, and the mean of its last weights; all of it can be stored."""

    def __init__(self, options: argparse.Namespace) -> None:
        torch.manual_seed(options.seed)
        self.options, self.task = options, task_of(options)
        self.model = model_of(options, self.task).to(options.device, memory_format=torch.channels_last)
        self.task = self.task.to(options.device)
        self.optimizer = optimizer_of(self.model, options)
        of_epoch = len(self.task.train.y) // min(options.batch, len(self.task.train.y))
        self.steps = min(options.epochs * of_epoch, options.most_steps or options.epochs * of_epoch)
        # Running moments are averaged as the weights are: torch's `update_bn` knows its own modules alone.
        average = get_ema_multi_avg_fn(options.average)
        self.mean = AveragedModel(self.model, multi_avg_fn=average, use_buffers=True) if options.average else None
        self.step, self.seconds, self.cpu = 0, 0.0, 0.0
        self.history: list[tuple[float, ...]] = []
        self.parts = {"model": self.model, "optimizer": self.optimizer}
        if self.mean is not None:
            self.parts["mean"] = self.mean
        if options.store and options.store.exists():
            self.load()
        self.began, self.began_cpu = time.monotonic(), time.process_time()

    @property
    def best(self) -> nn.Module:
        """What is scored."""
        return self.model if self.mean is None else self.mean.module

    def spent(self) -> tuple[float, float]:
        """Seconds, and those of the processor."""
        return self.seconds + time.monotonic() - self.began, self.cpu + time.process_time() - self.began_cpu

    def load(self) -> None:
        """Go to where the store stands."""
        state = torch.load(self.options.store, weights_only=True)
        for name, part in self.parts.items():
            part.load_state_dict(state[name])
        self.step, self.seconds, self.cpu, self.history = (
            state[name] for name in ("step", "seconds", "cpu", "history")
        )

    def save(self) -> None:
        """Write all, then put it in place of what was there."""
        wall, cpu = self.spent()
        state: dict[str, Any] = {name: part.state_dict() for name, part in self.parts.items()}
        state |= {"step": self.step, "seconds": wall, "cpu": cpu, "history": self.history}
        torch.save(state, self.options.store.with_suffix(".new"))
        self.options.store.with_suffix(".new").rename(self.options.store)

    def move(self, x: Tensor, y: Tensor) -> float:
        """One step."""
        for group in self.optimizer.param_groups:
            group["lr"] = self.options.rate * share(self.step, self.steps, self.options.warm)
        with torch.autocast(x.device.type, torch.bfloat16, enabled=not self.options.float32):
            output = self.model(x)
        loss = functional.cross_entropy(output.float(), y, label_smoothing=self.options.smoothing)
        self.optimizer.zero_grad()
        loss.backward()
        self.optimizer.step()
        if self.mean is not None:
            self.mean.update_parameters(self.model)
        self.step += 1
        return float(loss.detach())

    def run(self) -> None:
        """To the last step."""
        saved, running, began = time.monotonic(), None, self.step
        for _, x, y in batches(self.task, self.options, self.steps, self.step):
            now = self.move(x, y)
            running = now if running is None else 0.98 * running + 0.02 * now
            if self.step == began + 50:
                print(f"{50 * len(y) / (time.process_time() - self.began_cpu):.0f} images a second", flush=True)
            if self.step % self.options.look == 0 and not self.options.final:
                found = scored(self.best, self.task, self.task.validation)
                self.history.append((self.step, running, found, *self.spent()))
                print(*(f"{value:.6g}" for value in self.history[-1]), flush=True)
            if self.options.store and (time.monotonic() - saved > MINUTE or self.step == self.steps):
                saved = time.monotonic()
                self.save()


def run(options: argparse.Namespace) -> dict[str, Any]:
    """Train, and score once."""
    training = Training(options)
    task, model = training.task, training.model
    training.run()
    wall, cpu = training.spent()
    of_network, of_flows = multiply_adds(model, task.numbers(task.test.x[:2]))
    sizes = [sum(p.numel() for p in m.parameters()) for m in model.modules() if isinstance(m, hdnn.Stage)]
    chosen = {name: str(value) if isinstance(value, Path) else value for name, value in vars(options).items()}
    return {
        **chosen, "parameters": parameters(model), "of_flows": sum(sizes),
        "multiply_adds": of_network, "multiply_adds_of_flows": of_flows, "minutes": wall / 60, "cpu_minutes": cpu / 60,
        "validation": None if options.final else scored(training.best, task, task.validation),
        "history": training.history, "test": scored(training.best, task, task.test) if options.final else None,
    }  # fmt: skip


def curve(options: argparse.Namespace) -> None:
    """Trainings on few images."""
    done = options.out.read_text().splitlines() if options.out.exists() else []
    known = {tuple(json.loads(line)[name] for name in ("images", "model", "seed")) for line in done}
    cells = itertools.product(options.seeds, (500, 1000, 2000, 5000, 10000), ("stages", "resnet"))
    for seed, count, model in cells:
        if (count, model, seed) in known:
            continue
        chosen = {"images": count, "seed": seed, "model": model, "equal": "parameters", "final": True, "store": None}
        most = {"most_steps": options.most_steps or 1500, "epochs": 1500}
        result = run(argparse.Namespace(**{**vars(options), **chosen, **most}))
        print(count, model, seed, result["test"], flush=True)
        with options.out.open("a") as file:
            file.write(json.dumps(result) + "\n")


def numbers(text: str) -> tuple[int, ...]:
    """Whole numbers with commas between them."""
    return tuple(int(part) for part in text.split(","))


def parsed(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    """The choices of the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("task", choices=["mnist", "cifar10"])
    parser.add_argument("--folder", type=Path, required=True)
    parser.add_argument("--model", default="stages", choices=["stages", "resnet", "resnet32"])
    parser.add_argument("--without-flows", action="store_true")
    parser.add_argument("--units", type=numbers, default=(2, 2, 2))
    parser.add_argument("--channels", type=numbers, default=(16, 32, 56))
    parser.add_argument("--equal", default="multiply_adds", choices=["multiply_adds", "parameters"])
    parser.add_argument("--curve", action="store_true", help="the trainings on few images")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--blocks", type=int, default=2, help="of the ResNet, in each of three stages")
    parser.add_argument("--normalization", default="units", choices=["units", "batch", "bias", "none"])
    parser.add_argument("--step", type=float, default=1.0)
    parser.add_argument("--memory", choices=["store", "recompute", "reverse"])
    parser.add_argument("--epochs", type=int, default=8)
    parser.add_argument("--most-steps", type=int, help="of a run on few images")
    parser.add_argument("--images", type=int, help="train on so many, as many of each class")
    parser.add_argument("--batch", type=int, default=128)
    parser.add_argument("--optimizer", default="sgd", choices=["sgd", "adamw"])
    parser.add_argument("--rate", type=float, default=0.1)
    parser.add_argument("--warm", type=float, default=0.2, help="share of the steps in which the rate rises")
    parser.add_argument("--decay", type=float, default=5e-4)
    parser.add_argument("--smoothing", type=float, default=0.1)
    parser.add_argument("--average", type=float, default=0.0, help="share of the old mean that a step leaves, 0.998")
    parser.add_argument("--float32", action="store_true", help="no bfloat16")
    parser.add_argument("--look", type=int, default=400, help="steps between two looks at the images for choices")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--seeds", type=numbers, default=(0, 1, 2), help="of the trainings on few images")
    parser.add_argument("--final", action="store_true", help="train on the images for choices too, score the test part")
    parser.add_argument("--store", type=Path)
    parser.add_argument("--out", type=Path, help="a JSON file that gets the result as one more line")
    return parser.parse_args(arguments)


def main() -> None:
    """One run, on one thread."""
    torch.set_num_threads(1)
    keep_memory()
    options = parsed()
    if options.curve:
        curve(options)
        return
    result = run(options)
    print(json.dumps({name: value for name, value in result.items() if name != "history"}))
    if options.out:
        with options.out.open("a") as file:
            file.write(json.dumps(result) + "\n")


if __name__ == "__main__":
    main()
