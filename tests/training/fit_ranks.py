"""Trainings of many kinds on 1, 2 and 4 ranks; `test_many_ranks.py` starts them and compares.

Run as `python fit_ranks.py FOLDER RANKS...`, with benchmarks/ in PYTHONPATH. One process imports PyTorch and forks the
ranks of each number, one number after the other. Each rank leaves what it found in FOLDER/RANKS-RANK.pt: weights,
history and rows by name of the case.
"""

from __future__ import annotations

import copy
import os
import sys
import time
import warnings
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import fully_shard
from torch.nn import functional

import hdnn
import hdnn.jobs
from forking import forked, joined
from hdnn.jobs.repeats import Repeats
from hdnn.jobs.sources import loaded
from hdnn.training import starts
from hdnn.training.batches import Rows

CLASSES = functional.cross_entropy
OF_TWO = (
    *("refit", "restarts", "vectors recompute", "vectors reverse", "loader", "penalty", "every step"),
    *("image network units None", "image network units recompute", "image network batch recompute"),
    *("image network batch reverse", "image network bias None"),
)
FOLDER, BEFORE = Path(), ""  # where all is left, and the number of ranks before this one
SEEN: list[list[int]] = []  # rows that this rank has drawn, batch by batch
STARTED: list[list[int]] = []  # seeds of the starts that this rank has trained
ALONE: dict[str, Any] = {}  # errors of what one rank alone has, and what ranks do alone
WATCHED: list[int] = []  # rows that this rank has computed of those to watch, call by call
TOLD: list[Any] = []  # what a callback of the starts was told: epoch, step, objectives, state


def vectors(**options: Any) -> nn.Module:
    return hdnn.vector_classifier(2, 3, hdnn.h2(4, 3, step=0.2, **options))


def pictures(normalization: str, memory: str | None) -> nn.Module:
    network = hdnn.image_network((1, 1), (4, 6), classes=3, inputs=2, normalization=normalization, memory=memory)
    return network.to(torch.get_default_dtype())


def sequences() -> nn.Module:
    return hdnn.sequence_classifier(hdnn.HamiltonianRNN(2, 4, step=0.2), 3, every=True)


def coupled() -> nn.Module:
    return nn.Sequential(
        nn.Linear(2, 4), nn.BatchNorm1d(4), nn.Dropout(0.3), hdnn.h1(4, 3, step=0.2), nn.Dropout(0.2), nn.Linear(4, 3)
    )


def noting(norm: nn.Module) -> nn.Module:
    """A network that notes how many rows to watch it is given."""
    model = nn.Sequential(nn.Linear(2, 4, bias=False), norm, hdnn.h1(4, 3, step=0.2), nn.Linear(4, 3))
    model.register_forward_pre_hook(lambda model, given: None if model.training else WATCHED.append(len(given[0])))
    return model


def weighted(output: Tensor, y: Tensor) -> Tensor:
    """A mean over other weights than those of rows: nobody can put it together from means over pieces."""
    return functional.cross_entropy(output, y, weight=torch.tensor([1.0, 5.0, 0.2]).to(output))


class Held:
    """A loader of the rows of this rank."""

    def __init__(self, x: Tensor, y: Tensor, weight: Tensor, size: int) -> None:
        ranks = torch.distributed.get_world_size() if torch.distributed.is_initialized() else 1
        rank = torch.distributed.get_rank() if torch.distributed.is_initialized() else 0
        self.batches = []
        for start in range(0, len(y), size):
            whole = slice(start, min(start + size, len(y)))
            # Not the pieces that `fit` would cut: sizes are each rank's own affair.
            cuts = [0, *(int(len(y[whole]) * (k + 1) / ranks + 0.7) for k in range(ranks - 1)), len(y[whole])]
            own = slice(start + cuts[rank], start + cuts[rank + 1])
            self.batches.append((x[own], y[own], weight[own]))

    def __len__(self) -> int:
        return len(self.batches)

    def __iter__(self) -> Iterator[Any]:
        return iter(self.batches)


def cases() -> Iterator[tuple[str, Callable[[], list[Any]]]]:
    """Name, and what trains: a model, and what `fit` returns."""
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(25, 2, generator=generator)
    y = torch.randint(3, (25,), generator=generator)
    images = torch.randn(9, 2, 6, 6, generator=generator)
    weight = torch.rand(25, generator=generator)

    def fitted(make: Callable[[], nn.Module], x: Any, y: Any, loss: Any = None, **options: Any) -> Any:
        recipe = {"epochs": 2, "batch_size": 8, **options.pop("recipe", {})}
        torch.manual_seed(1)
        model = make()
        return model, hdnn.fit(model, x, y, hdnn.Recipe(**recipe), loss, **options)

    regularised = {"smoothness": 0.1, "head_decay": 0.1, "weight_decay": 0.1, "optimizer": "adamw", "clip": 0.5}
    watched = {"validation_fraction": 0.2, "patience": 2, "epochs": 9, "learning_rate": 0.5, "average": 0.9}
    yield "regularised", lambda: fitted(vectors, x, y, recipe=regularised, sample_weight=weight)
    yield "early stopping", lambda: fitted(vectors, x, y, recipe=watched)
    yield "refit", lambda: fitted(vectors, x, y, recipe={"refit": True, **watched})
    validation, few = (torch.cat((x, -x)), torch.cat((y, y))), (x[:3], y[:3])
    for name, norm, rows in (
        ("rows", nn.BatchNorm1d(4), validation),
        ("few rows", nn.BatchNorm1d(4), few),
        ("moments of what is there", nn.BatchNorm1d(4, track_running_stats=False), validation),
    ):
        options = {"validation": rows, "recipe": {"batch_size": 9}}
        yield f"watched: {name}", lambda n=norm, o=options: fitted(lambda: noting(n), x, y, CLASSES, **copy.copy(o))
    yield "restarts", lambda: fitted(vectors, x, y, recipe={"restarts": 2, "restart_epochs": 2})
    yield "starts told on all", lambda: started(fitted, x, y, range(count()))
    yield "starts told on the last", lambda: started(fitted, x, y, [count() - 1])
    yield "starts told to nobody", lambda: started(fitted, x, y, [])
    yield "starts resumed from others", lambda: started(fitted, x, y, range(count()), BEFORE)
    yield "lbfgs", lambda: fitted(vectors, x, y, recipe={"optimizer": "lbfgs", "learning_rate": 0.5})
    yield "alternating", lambda: fitted(vectors, x, y, recipe={"method": "alternating", "head_epochs": 3})
    yield "penalty", lambda: fitted(vectors, x, y, penalties=[(0.1, lambda network: network.flow.K.square().sum())])
    for memory in ("recompute", "reverse"):
        yield f"vectors {memory}", lambda m=memory: fitted(lambda: vectors(backend="eager", memory=m), x, y)
    score = {"accuracy": lambda output, y: (output.argmax(1) == y).double().mean()}
    yield "coupled", lambda: fitted(coupled, x, y, weighted, score=score, recipe={"batch_size": 11, "optimizer": "sgd"})
    yield "loader", lambda: fitted(vectors, Held(x[:23], y[:23], weight, 8), None, recipe={"batch_size": 8})
    steps, lengths = x[:24].view(6, 4, 2), torch.tensor([4, 1, 3, 2, 4, 1])  # scored but for their padding
    held = {"batch_size": 2, "validation_fraction": 0.3}
    yield "every step", lambda: fitted(sequences, (steps, lengths), y[:24].view(6, 4), recipe=held)
    for normalization in ("units", "batch", "bias"):
        for memory in (None,) if normalization == "bias" else (None, "recompute", "reverse"):
            yield (
                f"image network {normalization} {memory}",
                lambda n=normalization, m=memory: fitted(
                    lambda: pictures(n, m), images, y[:9], recipe={"epochs": 1, "augment": ("crop", "flip")}
                ),
            )
    yield "without a pause", lambda: fitted(vectors, x, y, backend="torch")
    yield "stopped and resumed", lambda: resumed(fitted, x, y, f"{count()}")
    yield "resumed from others", lambda: resumed(fitted, x, y, BEFORE)
    yield "exact reversal in float32", lambda: in_float32(fitted, images, y[:9])


def count() -> int:
    return torch.distributed.get_world_size() if torch.distributed.is_initialized() else 1


def resumed(fitted: Callable[..., Any], x: Tensor, y: Tensor, name: str) -> Any:
    """To the end from the middle of an epoch, of so many ranks as a name says."""
    states: list[Any] = [None]

    def keep(progress: Any) -> None:
        if (progress.epoch, progress.batch) == (1, 2):
            states[0] = progress.state()

    if name == str(count()):
        fitted(vectors, x, y, callbacks=[keep], backend="torch")
        torch.save(states[0], FOLDER / f"state-{name}-{os.getpid()}.pt")
        os.replace(FOLDER / f"state-{name}-{os.getpid()}.pt", FOLDER / f"state-{name}.pt")
    elif name:
        states = [torch.load(FOLDER / f"state-{name}.pt", weights_only=False)]
    with warnings.catch_warnings(record=True):  # of other circumstances, as a number of processes
        warnings.simplefilter("always")
        return fitted(vectors, x, y, resume=states[0], backend="torch")


def started(fitted: Callable[..., Any], x: Tensor, y: Tensor, listening: Any, before: str = "") -> Any:
    """The best of three starts, with callbacks on some ranks; from the middle of those of other ranks."""

    @hdnn.every(steps=3)
    def tell(progress: Any) -> None:
        TOLD.append((progress.epoch, progress.batch, progress.losses.clone(), progress.state()))

    rank = torch.distributed.get_rank() if torch.distributed.is_initialized() else 0
    state = torch.load(FOLDER / f"starts-{before}.pt", weights_only=False) if before else None
    with warnings.catch_warnings(record=True):
        warnings.simplefilter("always")
        recipe = {"restarts": 3, "restart_epochs": 3}
        found = fitted(vectors, x, y, recipe=recipe, start_callbacks=[tell] if rank in listening else [], resume=state)
    if TOLD and rank == 0 and not before:
        torch.save(TOLD[1][3], FOLDER / f"starts-{count()}.pt")
    return found


def refusals() -> Iterator[tuple[str, Callable[[], Any]]]:
    """What ends with an error, on all ranks the same."""
    x, y = torch.ones(9, 2), torch.arange(9) % 3
    rank = torch.distributed.get_rank() if torch.distributed.is_initialized() else 0

    def fitted(x: Tensor, y: Tensor, **options: Any) -> Any:
        torch.manual_seed(1)
        return hdnn.fit(vectors(), x, y, hdnn.Recipe(**{"epochs": 3, "batch_size": 4, **options}))

    yield "diverges", lambda: fitted(x, y, learning_rate=1e200, schedule="constant", optimizer="sgd")
    yield "infinite input", lambda: fitted(x.index_fill(0, torch.tensor([5]), torch.inf), y)
    yield "other data", lambda: fitted(x, (y + rank) % 3)
    yield "another recipe", lambda: fitted(x, y, learning_rate=0.1 + rank)
    yield "native", lambda: hdnn.fit(vectors(), x, y, hdnn.Recipe(epochs=1), backend="native")
    yield "all starts diverge", lambda: fitted(x, y, restarts=3, restart_learning_rate=1e200, optimizer="sgd")
    yield "callback of the starts", lambda: told(x, y, ended)
    if torch.distributed.is_initialized():
        kept: list[Any] = []
        yield "state of the starts too late", lambda: (told(x, y, kept.append), kept[0].state())
        yield "sharded", lambda: hdnn.fit(sharded(), x, y, hdnn.Recipe(epochs=1))
    lonely = [(x[:4], y[:4])] * (1 + rank)
    yield "other batches", lambda: hdnn.fit(vectors(), lonely, recipe=hdnn.Recipe(epochs=1))


class Short:
    """A loader that says it has two batches; the last rank's does something else."""

    def __init__(self, what: str) -> None:
        rank = torch.distributed.get_rank()
        self.what = what if rank == count() - 1 else ""
        self.rank = 0 if what == "same" else rank

    def __len__(self) -> int:
        return 2

    def __iter__(self) -> Iterator[Any]:
        x, y = torch.ones(3, 2) * self.rank, torch.arange(3)
        yield x, y
        if self.what == "broken":
            raise OSError("The disk is gone.")
        if self.what != "few":
            yield {"label": (x, y + 1), "kind": (x, y.int()), "weight": (x, y, torch.ones(3))}.get(self.what, (x, y))
        if self.what == "many":
            yield x, y


def of_one() -> Iterator[tuple[str, Callable[[], Any]]]:
    """What the last rank alone has, and all refuse."""
    x, y = torch.ones(9, 2), torch.arange(9) % 3
    last = torch.distributed.get_rank() == count() - 1
    for what in ("few", "many", "broken", "label", "kind", "weight", "same"):
        yield what, lambda what=what: hdnn.fit(vectors(), Short(what), recipe=hdnn.Recipe(epochs=1))
    yield "shape", lambda: hdnn.fit(vectors(), x[:, : 2 - last], y, hdnn.Recipe(epochs=1))
    yield "targets", lambda: hdnn.fit(vectors(), x, y.double() if last else y, hdnn.Recipe(epochs=1))
    watched = {"validation": (x, y)} if last else {}
    yield "validation", lambda: hdnn.fit(vectors(), x, y, hdnn.Recipe(epochs=1), **watched)
    yield "fetched", lambda: loaded(Fetched(there=True))
    yield "not there", lambda: loaded(Fetched(there=False))
    yield (
        "score",
        lambda: hdnn.fit(vectors(), x, y, hdnn.Recipe(epochs=1), score={"far": lambda a, b: a.mean()} if last else {}),
    )


class Fetched:
    """Data that are fetched once, if they can be, by whoever is first."""

    download = True

    def __init__(self, *, there: bool) -> None:
        self.there = there

    def load(self, progress: Any = None) -> Any:
        file = FOLDER / "fetched"
        if not self.there:
            raise OSError(f"Rank {torch.distributed.get_rank()} did not find it.")
        if file.exists():
            return "read"
        time.sleep(0.1)
        file.touch()
        return "fetched"


def repeated() -> dict[str, Any]:
    """Further trainings, which ranks share out: what comes of them, and the seeds of the networks made here."""
    dataset = hdnn.jobs.Source("double-moons", size=60).load()
    made: list[int] = []

    def make(seed: int) -> Any:
        made.append(seed)
        torch.manual_seed(seed)
        return hdnn.vector_classifier(2, 2, hdnn.h2(4, 3, step=0.2)).float()

    recipe = hdnn.Recipe(epochs=2, batch_size=16, optimizer="sgd", seed=5)
    found = Repeats(folds=3, seeds=4).carry_out(make, dataset, recipe, None, {"accuracy": 0.5}, lambda text: None)
    return {"repeats": found, "made": made}


def told(x: Tensor, y: Tensor, callback: Callable[[Any], None]) -> None:
    hdnn.fit(vectors(), x, y, hdnn.Recipe(epochs=1, restarts=2, restart_epochs=1), start_callbacks=[callback])


def ended(progress: Any) -> None:
    raise ValueError(f"Enough after step {progress.batch} of {len(progress.losses)} starts.")


def sharded() -> nn.Module:
    model = vectors()
    fully_shard(model, mesh=init_device_mesh("cpu", (count(),)))
    return model


def in_float32(fitted: Callable[..., Any], images: Tensor, y: Tensor) -> Any:
    torch.set_default_dtype(torch.float32)
    try:
        return fitted(lambda: pictures("units", "reverse"), images.float(), y, recipe={"epochs": 1})
    finally:
        torch.set_default_dtype(torch.float64)


def watch_rows() -> None:
    """Note which rows are drawn."""
    draw = Rows._drawn

    def noted(self: Rows, chosen: Any, own: Any = ()) -> Any:
        SEEN.extend(rows.tolist() for rows in (own or chosen) if isinstance(rows, Tensor))
        return draw(self, chosen, own)

    Rows._drawn = noted  # type: ignore[method-assign]
    train = starts.train_together

    def trained(*given: Any, **options: Any) -> Any:
        STARTED.append(list(options["seeds"]))
        return train(*given, **options)

    starts.train_together = trained


def run(rank: int, ranks: int, folder: Path) -> None:
    torch.set_num_threads(1)
    torch.set_default_dtype(torch.float64)
    watch_rows()
    if ranks > 1:
        meeting = f"file://{folder}/meeting-{ranks}"
        torch.distributed.init_process_group("gloo", init_method=meeting, rank=rank, world_size=ranks)
    left: dict[str, Any] = {}
    wanted = os.environ.get("CASES", "")
    for name, train in cases():
        if (wanted and not any(word in name for word in wanted.split(","))) or (ranks > 2 and name in OF_TWO):
            continue
        for noted in (SEEN, STARTED, TOLD, WATCHED):
            noted.clear()
        torch.manual_seed(2 + rank)
        try:
            model, history = train()
        except Exception as error:
            raise RuntimeError(f"{name} on {ranks} ranks") from error
        weights = {key: value.clone() for key, value in model.state_dict().items()}
        left[name] = {"weights": weights, "history": history, "rows": list(map(list, SEEN))}
        left[name] |= {"started": list(STARTED), "told": list(TOLD), "watched": list(WATCHED)}
    for name, train in refusals() if not wanted else ():
        try:
            train()
            left[name] = ""
        except (ValueError, FloatingPointError) as error:
            left[name] = f"{type(error).__name__}: {error}"
    for name, train in of_one() if ranks == 2 and not wanted else ():
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("error")
                ALONE[name] = str(train())
        except (ValueError, OSError, UserWarning) as error:
            ALONE[name] = f"{type(error).__name__}: {error}"
    if ranks < 3 and not wanted:
        ALONE.update(repeated())
    torch.save(ALONE, folder / f"alone-{ranks}-{rank}.pt")
    torch.save(left, folder / f"{ranks}-{rank}.pt")
    if ranks > 1:
        torch.distributed.destroy_process_group()


def main(folder: Path, numbers: list[int]) -> None:
    global FOLDER, BEFORE
    FOLDER = folder
    for before, ranks in zip(("", *numbers), numbers, strict=False):
        BEFORE = str(before)
        joined([forked(partial(run, rank, ranks, folder)) for rank in range(ranks)])


if __name__ == "__main__":
    main(Path(sys.argv[1]), [int(word) for word in sys.argv[2:]])
