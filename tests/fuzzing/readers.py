"""The readers of files that may come from elsewhere, each with valid files to start from, and what it may raise."""

import contextlib
import json
import shutil
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from hdnn.checkpoints import largest_checkpoint, read_checkpoint, write_checkpoint
from hdnn.data import encoder_from_dict, idx_parts, read_idx, read_table, table, table_parts
from hdnn.data.decoding import decode, look
from hdnn.jobs.beginnings import beginning
from hdnn.jobs.prediction import opened
from hdnn.jobs.sources import source_of
from hdnn.networks import NetworkConfig, build_network
from hdnn.runs import Run, RunConfig, versions
from hdnn.training import Recipe, fit
from samples import digit_images, flowers, write_idx

ALLOWED = (ValueError, OSError)
"""What the command line shows as one clear message."""

NETWORK = NetworkConfig("classification", (5,), 2, "h2", 6, 2, 0.1, "linear")
RECIPE = Recipe(epochs=2, batch_size=16)


def rows(count=40):
    """Inputs and classes for a network of five inputs."""
    x = torch.linspace(-1, 1, 5 * count).reshape(count, 5)
    return x, (x[:, 0] > 0).long()


def make(folder: Path) -> dict[str, list[bytes]]:
    """Valid files for each reader; the folder keeps a run that the others are put into."""
    frame = flowers(40)
    data = table(frame, "kind", columns=["length", "width", "colour"])
    start = {"init_std": None, "device": "cpu", "threads": 1, "fingerprint": "0" * 64}
    source = {"data": "t.csv", "seed": 0, "size": None, "target": "kind", "task": None, "columns": ["width"]}
    config = RunConfig(
        data={**source, "folder": None, "download": False},
        network=NETWORK,
        recipe={**vars(RECIPE)},
        encoder=data.encoder.to_dict(),
        target=data.target.to_dict(),
        seed=0,
        command="hdnn train t.csv",
        versions=versions(),
        start=start,
    )
    run = Run.create(folder / "run", config)
    network = build_network(NETWORK)
    run.save_network(network)
    states = []
    fit(network, *rows(), RECIPE, callbacks=[lambda progress: states.append(progress.state())])
    for state in states[1:5:3]:
        write_checkpoint(run, state, run.digest)
        states.append(run.checkpoint.read_bytes())
    checkpoints = [state for state in states if isinstance(state, bytes)]
    run.checkpoint.unlink()
    run.write_metrics({"interrupted": False, "test_accuracy": 0.5})
    place = folder / "made"
    place.mkdir()
    frame.to_csv(place / "a.csv", index=False)
    frame.assign(colour='a "b",\nc').to_csv(place / "b.csv", index=False)
    ways = {"lap": "1:30", "long": "1:30:00", "span": "2h 15m", "price": "$1.2K", "rain": "T"}
    frame.assign(**ways).to_csv(place / "c.csv", index=False)
    frame.to_parquet(place / "a.parquet")
    frame.set_index("kind").astype({"colour": "category"}).to_parquet(place / "b.parquet", compression="zstd")
    frame.to_parquet(place / "c.parquet", compression=None, use_dictionary=False, data_page_version="2.0")
    images, _ = digit_images(6, 4)
    for name in ("a.idx", "a.idx.gz"):
        write_idx(place / name, images)
    picture = Image.fromarray(np.arange(300, dtype=np.uint8).reshape(10, 10, 3))
    for converted, name in ((picture, "a.png"), (picture, "a.jpg"), (picture.convert("LA"), "a.grey.png")):
        converted.save(place / name)
    image = {"kind": "image", "mean": 0.1, "std": 0.3, "channels": 1, "height": 4, "width": 4}
    document = json.loads((run.folder / "config.json").read_bytes())
    other = {**document, "encoder": image, "network": {**document["network"], "inputs": [1, 4, 4], "kernel_size": 1}}
    return {
        "idx": [(place / name).read_bytes() for name in ("a.idx", "a.idx.gz")],
        "csv": [(place / name).read_bytes() for name in ("a.csv", "b.csv", "c.csv")],
        "parquet": [(place / f"{name}.parquet").read_bytes() for name in "abc"],
        "config": [json.dumps(each).encode() for each in (document, other)],
        "weights": [(run.folder / "model.safetensors").read_bytes()],
        "checkpoint": checkpoints,
        "picture": [(place / f"a.{ending}").read_bytes() for ending in ("png", "jpg", "grey.png")],
        "metrics": [(run.folder / "metrics.json").read_bytes()],
    }


def read_images(folder: Path, content: bytes) -> None:
    """IDX, whole and in parts."""
    path = folder / "images"
    path.write_bytes(content)
    try:
        whole = read_idx(path)
    except ALLOWED:
        whole = None
    parts = list(idx_parts(path, part=7))
    if whole is not None and not np.array_equal(np.concatenate(parts), whole):
        raise AssertionError("parts differ from the whole")


def read_rows(folder: Path, content: bytes, suffix: str) -> None:
    """A table, to predict and to learn."""
    path = folder / f"table{suffix}"
    path.write_bytes(content)
    encoder = encoder_from_dict(Run.open(folder / "run").config.encoder)
    columns = {"numeric": encoder.numeric_columns, "text": encoder.text_columns}
    found = []
    for part in (100, 2**22):
        try:
            found.append([encoder.encode(part) for part in table_parts(path, **columns, part=part)])
        except ALLOWED:
            found.append(None)
    if (found[0] is None) != (found[1] is None):
        raise AssertionError("parts decide whether a file is good")
    if found[0] is not None and np.concatenate(found[0]).tobytes() != np.concatenate(found[1]).tobytes():
        raise AssertionError("parts make a difference")
    frame = read_table(path)
    if len(frame) < 1000:
        table(frame, str(frame.columns[-1]))


def read_config(folder: Path, content: bytes) -> None:
    """The configuration of a run, and all that is built from it."""
    run = copied(folder, "config.json", content)
    for read in (beginning, lambda run: source_of(run, None), lambda run: opened(run.folder)):
        try:
            read(Run.open(run))
        except ALLOWED as error:
            str(error).encode()
            last = error
        else:
            last = None
    if last is not None:
        raise last


def read_weights(folder: Path, content: bytes) -> None:
    """Weights of a run."""
    Run.open(copied(folder, "model.safetensors", content)).load_network()


def read_state(folder: Path, content: bytes) -> None:
    """A checkpoint, and the training that goes on from it."""
    run = Run.open(copied(folder, "checkpoint.safetensors", content))
    network = build_network(NETWORK)
    state = read_checkpoint(run, largest_checkpoint(network, RECIPE, 40))
    if state is not None:
        # A changed number is as good as another, until training diverges from it.
        with contextlib.suppress(FloatingPointError):
            fit(network, *rows(), RECIPE, resume=state)


def read_metrics(folder: Path, content: bytes) -> None:
    """The results of a run."""
    Run.open(copied(folder, "metrics.json", content)).read_metrics()


def copied(folder: Path, name: str, content: bytes) -> Path:
    """A copy of the run, with other content in one of its files."""
    run = folder / "copy"
    if not run.is_dir():
        shutil.copytree(folder / "run", run)
    for path in (folder / "run").iterdir():
        if path.is_file():
            shutil.copyfile(path, run / path.name)
    (run / "checkpoint.safetensors").unlink(missing_ok=True)
    (run / name).write_bytes(content)
    return run


def read_picture(folder: Path, content: bytes) -> None:
    """A picture, in colours and in grey."""
    path = folder / "picture"
    path.write_bytes(content)
    colours, grey = (decode(path, (channels, 5, 7)) for channels in (3, 1))
    if colours.shape != (3, 5, 7) or grey.shape != (1, 5, 7) or look(path).width < 1:
        raise AssertionError("not as it was asked for")


READERS = {
    "idx": read_images,
    "csv": lambda folder, content: read_rows(folder, content, ".csv"),
    "parquet": lambda folder, content: read_rows(folder, content, ".parquet"),
    "config": read_config,
    "weights": read_weights,
    "checkpoint": read_state,
    "metrics": read_metrics,
    "picture": read_picture,
}
