"""Small files of the kinds that users have: tables with gaps and names, folders of IDX images and of pictures."""

import gzip

import numpy as np
import pandas as pd
from PIL import Image


def flowers(rows=120, seed=0):
    """A table of two classes: numbers, a category, and a few missing cells of both."""
    generator = np.random.default_rng(seed)
    kind = np.resize(["daisy", "rose"], rows)
    frame = pd.DataFrame(
        {
            "length": (generator.normal(0, 1, rows) + 3.0 * (kind == "rose")).round(3),
            "width": generator.normal(5, 1, rows).round(3),
            "colour": generator.choice(["red", "white", "blue"], rows),
            "kind": kind,
        }
    )
    frame.loc[3, "length"] = None
    frame.loc[5, "colour"] = None
    return frame


def houses(rows=120, seed=0):
    """A table whose target is a decimal number, a line through its inputs with a little noise."""
    generator = np.random.default_rng(seed)
    area, age = generator.uniform(20, 200, rows), generator.uniform(0, 80, rows)
    town = generator.choice(["Bern", "Lund"], rows)
    price = 3.0 * area - age + 50.0 * (town == "Bern") + generator.normal(0, 3, rows)
    return pd.DataFrame({"area": area, "age": age, "town": town, "price": price})


def write_idx(path, values):
    values = np.asarray(values, dtype=np.uint8)
    header = bytes([0, 0, 8, values.ndim]) + np.array(values.shape, ">u4").tobytes()
    content = header + values.tobytes()
    path.write_bytes(gzip.compress(content) if path.suffix == ".gz" else content)
    return path


def digit_images(rows, size=8, seed=0):
    """Images in which the class is a bright row of pixels, or for 8 and 9 a bright column."""
    generator = np.random.default_rng(seed)
    labels = np.arange(rows) % 10
    images = generator.integers(0, 60, (rows, size, size))
    for image, label in zip(images, labels, strict=True):
        if label < 8:
            image[label % size] = 255
        else:
            image[:, label - 8] = 255
    return images, labels


def mnist_like(folder, train=60, test=20, size=8):
    """The four files of MNIST in small: two of them compressed."""
    folder.mkdir(parents=True, exist_ok=True)
    for part, rows, seed in (("train", train, 0), ("t10k", test, 1)):
        images, labels = digit_images(rows, size, seed)
        write_idx(folder / f"{part}-images-idx3-ubyte", images)
        write_idx(folder / f"{part}-labels-idx1-ubyte.gz", labels)
    return folder


def picture_folder(folder, count=6, side=8, seed=0):
    """Three classes of small pictures, each in a folder: bright ones, dark ones, and striped ones."""
    generator = np.random.default_rng(seed)
    for name, low, high in (("bright", 150, 256), ("dark", 0, 100), ("striped", 0, 256)):
        (folder / name).mkdir(parents=True, exist_ok=True)
        for k in range(count):
            values = generator.integers(low, high, (side, side, 3), dtype=np.uint8)
            if name == "striped":
                values[::2] = 255
            Image.fromarray(values).save(folder / name / f"{k}.png")
    return folder
