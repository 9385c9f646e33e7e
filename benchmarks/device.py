"""What can be said of hdnn on a device only there: python benchmarks/device.py --part PART --device cuda.

`tests`: layers, gradients, exact reversal, training, resuming and runs on the device beside those on the processor.
`images`: images a second and memory against depth of Hamiltonian networks and of a ResNet, then Hamiltonian-74 and
ResNet-32 trained on CIFAR-10 by one recipe for as many epochs as --seconds allow. `flow` and `training`: the Triton
backend beside the loop over layers, see `device_flows.py`; `sizes` and `tiles`: where and how it is fastest, see
`device_sizes.py`. Each part takes less than four minutes on one card (--limit) and writes one file, after every step,
so that nothing is lost where time ends; a step that fails says why, and the next begins.

A trial of the script without a card, whose numbers say nothing:

    TRITON_INTERPRET=1 python benchmarks/device.py --part sizes --device cpu --small --seconds 1 --out sizes.json
"""

from __future__ import annotations

import argparse
import functools
import itertools
import json
import os
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

import device_flows
import device_sizes
import device_steps
import hdnn
import images
from device_steps import Found, Step
from image_step import UNITS, resnet


def close(a: Tensor, b: Tensor, tolerance: float) -> float:
    """The largest difference, relative to the largest number.

    Raises:
        ValueError: if it exceeds the tolerance.
    """
    found = float((a.cpu() - b.cpu()).abs().max() / b.abs().max().clamp_min(1e-30))
    if not found <= tolerance:
        raise ValueError(f"differs by {found:.2g}, more than {tolerance:.2g}")
    return found


def pulled(model: nn.Module, x: Tensor) -> Tensor:
    """The output and all gradients, in one vector on the processor."""
    model.zero_grad()
    y = model(x)
    y.square().mean().backward()
    parts = [y.detach(), *(p.grad for p in model.parameters() if p.grad is not None)]
    return torch.cat([part.flatten().cpu() for part in parts])


def flows(device: str) -> float:
    """Presets in float64, forward and backward."""
    worst = 0.0
    for make in (hdnn.h1, hdnn.h2, hdnn.ms1, hdnn.ms2, hdnn.ms3):
        for kernel_size in (None, 1, 3):
            flow = make(8, layers=4, step=0.1, kernel_size=kernel_size, dtype=torch.float64)
            x = torch.randn(5, 8, *([6, 6] if kernel_size else []), dtype=torch.float64)
            worst = max(worst, close(pulled(flow.to(device), x.to(device)), pulled(flow.cpu(), x), 1e-10))
    return worst


def stages(device: str) -> float:
    """Networks in stages while training, in float64."""
    worst = 0.0
    for kind in ("units", "batch", "bias", None):
        network = hdnn.image_network((2, 2), (8, 16), normalization=kind, step=0.5).double()
        nn.init.normal_(network.head.weight)
        x = torch.randn(6, 3, 12, 12, dtype=torch.float64)
        worst = max(worst, close(pulled(network.to(device), x.to(device)), pulled(network.cpu(), x), 1e-9))
    return worst


def reversal(device: str) -> float:
    """Gradients without kept states, in float32 and with bfloat16 convolutions, beside those in float64."""
    torch.manual_seed(0)
    network = hdnn.image_network((9, 9), (8, 16), step=0.1, memory="reverse")
    nn.init.normal_(network.head.weight)
    x = torch.randn(6, 3, 12, 12)
    kept = hdnn.image_network((9, 9), (8, 16), step=0.1)
    kept.load_state_dict(network.state_dict())
    exact = pulled(kept.double(), x.double())
    network.to(device)
    with torch.backends.cudnn.flags(allow_tf32=False):  # which PyTorch allows in convolutions
        found = close(pulled(network, x.to(device)).double(), exact, 1e-4)
    close(pulled(network, x.to(device)).double(), exact, 1e-2)
    with torch.autocast(torch.device(device).type, torch.bfloat16):
        close(pulled(network, x.to(device)).double(), exact, 0.5)
    return found


def training(device: str) -> float:
    """The recipe for images: it learns, and a pause changes no bit."""
    y = torch.arange(256) % 2
    x = torch.randn(256, 1, 12, 12) * 0.2
    x[y == 0, :, ::2] += 1
    x[y == 1, :, :, ::2] += 1
    recipe = hdnn.Recipe(
        epochs=4, batch_size=32, optimizer="sgd", learning_rate=0.1, schedule="one_cycle", average=0.9,
        precision="bfloat16", augment=("crop",),
    )  # fmt: skip
    states: list[Any] = []

    def trained(**more: Any) -> nn.Module:
        torch.manual_seed(0)
        network = hdnn.image_network((1, 1), (8, 16), classes=2, inputs=1).to(device)
        hdnn.fit(network, x, y, recipe, **more)
        return network

    whole = trained(callbacks=[lambda progress: states.append(progress.state())])
    cut = trained(resume=states[20])
    if not all(torch.equal(a, b) for a, b in zip(whole.state_dict().values(), cut.state_dict().values(), strict=True)):
        raise ValueError("a pause changed bits: the device's own sums have no fixed order")
    accuracy = hdnn.evaluate(whole, x, y)["accuracy"]
    if accuracy < 0.95:
        raise ValueError(f"learned {accuracy:.2f} of the stripes only")
    return accuracy


def runs(device: str) -> float:
    """A run folder, made on the device and read without it."""
    from hdnn.jobs import Source, evaluate, train

    with tempfile.TemporaryDirectory() as place:
        outcome = train(Source("digits"), {"epochs": 5}, Path(place) / "run", device=device)
        again = evaluate(Path(place) / "run")["accuracy"]
    if abs(again - outcome.metrics["test_accuracy"]) > 0.01:
        raise ValueError(f"accuracy {outcome.metrics['test_accuracy']} on the device, {again} without it")
    return again


def compiled(device: str) -> float:
    """torch.compile of a network in stages."""
    network = hdnn.image_network((1, 1), (8, 16)).to(device).eval()
    nn.init.normal_(network.head.weight)
    x = torch.randn(4, 3, 12, 12, device=device)
    with torch.no_grad():
        return close(torch.compile(network)(x), network(x), 1e-4)


CHECKS: tuple[Callable[[str], float], ...] = (flows, stages, reversal, training, runs, *device_flows.CHECKS, compiled)


def tests(options: argparse.Namespace) -> list[Step]:
    """Every check, then the tests of the Triton backend on the device, as far as the time reaches."""
    checks = [Step({"check": check.__name__}, functools.partial(checked, check, options)) for check in CHECKS]
    return [*checks, Step({"check": "pytest"}, functools.partial(suite, options))]


def checked(check: Callable[[str], float], options: argparse.Namespace, _: float) -> Found:
    """What a check finds; it raises where it does not hold."""
    return {"value": check(options.device)}


def suite(options: argparse.Namespace, seconds: float) -> Found:
    """`pytest --device`, without long tests; where time ends, there is no exit code."""
    folder = Path(__file__).parent.parent
    files = [str(folder / "tests" / "kernels" / f"test_triton{name}.py") for name in ("_use", "_refusals", "")]
    line = [sys.executable, "-m", "pytest", "--device", options.device, "-q", "-p", "no:cacheprovider", "-m",
            "not slow and not long", *(files[1:2] if options.small else files)]  # fmt: skip
    with tempfile.TemporaryFile("w+") as output:
        try:
            code = subprocess.run(line, cwd=folder, stdout=output, stderr=output, timeout=0.95 * seconds).returncode
        except subprocess.TimeoutExpired:
            code = None
        output.seek(0)
        return {"exit_code": code, "said": output.read()[-3000:]}


def made(name: str, memory: Any = None) -> nn.Module:
    """A network by its name."""
    torch.manual_seed(0)
    if name == "resnet32":
        return resnet(5)
    network = hdnn.image_network(
        UNITS[name], (32, 64, 112 if name == "74" else 128), normalization="batch", memory=memory
    )
    nn.init.normal_(network.head.weight, std=0.1)
    return network


def synchronize(device: str) -> None:
    """Wait for what was sent to a device."""
    if torch.device(device).type == "cuda":
        torch.cuda.synchronize(device)


def passed(model: nn.Module, options: argparse.Namespace, batch: int, steps: int, *, low: bool) -> Found:
    """Images a second, forward and backward, and the peak of the memory."""
    device = options.device
    model = model.to(device, memory_format=torch.channels_last)
    x = torch.randn(batch, 3, 32, 32, device=device).contiguous(memory_format=torch.channels_last)
    y = torch.randint(10, (batch,), device=device)
    on_card = torch.device(device).type == "cuda"

    def step() -> None:
        with torch.autocast(torch.device(device).type, torch.bfloat16, enabled=low):
            output = model(x)
        functional.cross_entropy(output.float(), y).backward()

    step()
    before = 0
    if on_card:
        torch.cuda.reset_peak_memory_stats(device)
        before = torch.cuda.memory_allocated(device)
    synchronize(device)
    began = time.perf_counter()
    for _ in range(steps):
        step()
    synchronize(device)
    peak = torch.cuda.max_memory_allocated(device) - before if on_card else None
    return {"images_per_second": steps * batch / (time.perf_counter() - began), "peak_bytes": peak}


def pictures(options: argparse.Namespace) -> list[Step]:
    """Pace and memory, then trainings."""
    steps, small = [], options.small
    for name, low, batch in itertools.product(("74", "resnet32"), (False, True), (128, 512)):
        size = min(batch, options.batch)
        run = functools.partial(paced, name, options, size, low)
        steps.append(Step({"what": "pace", "network": name, "bfloat16": low, "batch": size}, run))
    for name, memory in itertools.product(("74",) if small else ("74", "218", "1202"), ("store", "reverse")):
        size = min(32, options.batch)
        run = functools.partial(kept, name, memory, options, size)
        steps.append(Step({"what": "memory", "network": name, "memory": memory, "batch": size}, run))
    for name in () if options.folder is None else ("74", "resnet32"):
        steps.append(Step({"what": "training", "network": name}, functools.partial(trained, name, options)))
    return steps


def paced(name: str, options: argparse.Namespace, batch: int, low: bool, _: float) -> Found:
    """Images a second of a network."""
    return passed(made(name), options, batch, options.steps, low=low)


def kept(name: str, memory: str, options: argparse.Namespace, batch: int, _: float) -> Found:
    """What a network takes that keeps its states, or computes them again on the way back."""
    return passed(made(name, memory), options, batch, 1, low=False)


def trained(name: str, options: argparse.Namespace, seconds: float) -> Found:
    """By the recipe of `images.py`, for as many epochs as the time allows; batch 5 of CIFAR-10 is scored once."""
    arguments = ["cifar10", "--folder", str(options.folder), "--units", "6,6,6", "--channels", "32,64,112"]
    arguments += ["--normalization", "batch", "--batch", str(options.batch), "--device", options.device, "--final"]
    arguments += ["--average", "0.995", "--rate", "0.2", "--look", "1000000"]
    arguments += ["--model", "resnet32"] if name == "resnet32" else []
    arguments += ["--most-steps", "2"] if options.small else []
    pace = passed(made(name), options, options.batch, options.steps, low=True)["images_per_second"]
    epochs = max(1, int(0.7 * min(seconds, options.seconds / 2) * pace / 40_000))
    return images.run(images.parsed([*arguments, "--epochs", str(epochs)]))


PARTS: dict[str, Callable[[argparse.Namespace], list[Step]]] = {
    "tests": tests,
    "images": pictures,
    "flow": device_flows.flows,
    "training": device_flows.whole,
    "sizes": device_sizes.sizes,
    "tiles": device_sizes.tiles,
}


def parsed(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    """The options."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--part", required=True, choices=PARTS)
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--folder", type=Path, help="of the batches of CIFAR-10; without, nothing is trained on them")
    parser.add_argument("--mnist", help="folder with the four MNIST files; without, no flow is trained on them")
    parser.add_argument("--seconds", type=float, default=150.0, help="for all trainings or all flows together")
    parser.add_argument("--limit", type=float, default=225.0, help="seconds for the whole part, what is ready included")
    parser.add_argument("--batch", type=int, default=512)
    parser.add_argument("--steps", type=int, default=10, help="of a measurement of the pace")
    parser.add_argument(
        "--small", action="store_true", help="a trial of the script, with --device cpu: few small sizes"
    )
    parser.add_argument("--together", action="store_true", help="a process for each job, as on a card")
    parser.add_argument("--after", type=Path, help="a file without which nothing is timed: other work goes on")
    parser.add_argument("--out", type=Path, required=True, help="the one file that is written")
    return parser.parse_args(arguments)


def report(options: argparse.Namespace, steps: Sequence[Step]) -> Found:
    """Every step, written to the file as soon as it is known."""
    card = torch.cuda.get_device_name(options.device) if device_steps.on_card(options.device) else "processor"
    found: Found = {"part": options.part, "device": card, "torch": torch.__version__, "steps": len(steps), "found": []}
    place = options.out.with_suffix(".part")

    def write() -> None:
        place.write_text(json.dumps(found, indent=1) + "\n")
        place.replace(options.out)

    write()
    for piece in device_steps.done(steps, options.limit):
        print(json.dumps({name: value for name, value in piece.items() if name != "history"}), flush=True)
        found["found"].append(piece)
        write()
    return found


def main() -> None:
    """One part."""
    options = parsed()
    # What no signal reaches, a compiler or a device that waits, ends here; the file holds what was known before.
    guard = threading.Timer(options.limit + 10.0, lambda: (device_steps.end_children(), os._exit(3)))
    guard.daemon = True
    guard.start()
    try:
        report(options, PARTS[options.part](options))
    finally:
        device_steps.end_children()


if __name__ == "__main__":
    main()
