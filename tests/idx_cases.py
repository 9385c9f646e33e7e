"""IDX files as MNIST has them, small and made up."""

import gzip
import struct

import numpy as np

from hdnn.data import images

NAMES = [name.removesuffix(".gz") for name in images.SHA256]


def idx(values, kind=8, shape=None):
    values = np.asarray(values, np.uint8)
    shape = values.shape if shape is None else shape
    return bytes([0, 0, kind, len(shape)]) + struct.pack(f">{len(shape)}I", *shape) + values.tobytes()


def files(train=30, test=10, side=5, labels=10):
    generator = np.random.default_rng(0)
    made = []
    for count in (train, test):
        made.append(idx(generator.integers(0, 256, (count, side, side))))
        made.append(idx(np.arange(count) % labels))
    return dict(zip(NAMES, made, strict=True))


def put(folder, contents):
    for name, content in contents.items():
        (folder / name).write_bytes(content)


def packed(contents):
    return {f"{name}.gz": gzip.compress(content, mtime=0) for name, content in contents.items()}
