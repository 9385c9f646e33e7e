"""`hdnn predict` on a table larger than the memory it may take: time, and the peak of memory.

    python benchmarks/streaming.py [--gigabytes 2] [--folder /tmp]

Trains a small run, writes a CSV of that size, predicts it in a process of its own and deletes both. The first rows are
predicted once more all at once; they must be the same bytes.
"""

import argparse
import os
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import pandas as pd

COLUMNS = 18
CHECKED = 20000


def block(count, seed):
    """Rows of decimal numbers, whole numbers with gaps, and a category."""
    generator = np.random.default_rng(seed)
    frame = pd.DataFrame(generator.normal(size=(count, COLUMNS)).round(6), columns=[f"x{i}" for i in range(COLUMNS)])
    frame["count"] = pd.array(generator.integers(0, 1000, count), dtype="Int64")
    frame.loc[generator.random(count) < 0.01, "count"] = pd.NA
    frame["town"] = generator.choice(["Bern", "Lund", "Oslo"], count)
    frame["kind"] = np.where(frame["x0"] + frame["x1"] > 0, "yes", "no")
    return frame


def run(folder, *line):
    """A command line in a process of its own: seconds, and the peak of its memory in MiB."""
    start = time.perf_counter()
    process = subprocess.Popen([sys.executable, "-c", "from hdnn.cli import main; main()", *map(str, line)], cwd=folder)
    _, status, usage = os.wait4(process.pid, 0)
    if status:
        raise SystemExit(f"hdnn {' '.join(map(str, line))} failed")
    return time.perf_counter() - start, usage.ru_maxrss / 1024


def main():
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--gigabytes", type=float, default=2.0)
    parser.add_argument("--folder", default=None)
    asked = parser.parse_args()
    folder = Path(tempfile.mkdtemp(dir=asked.folder))
    try:
        block(2000, 0).to_csv(folder / "train.csv", index=False)
        run(folder, "train", "train.csv", "--target", "kind", "--layers", 4, "--epochs", 3, "-o", "run")
        rows = block(100_000, 1).drop(columns="kind").to_csv(index=False)
        header, _, body = rows.partition("\n")
        copies = int(asked.gigabytes * 1e9 / len(body)) + 1
        with (folder / "big.csv").open("w") as stream:
            stream.write(header + "\n")
            for _ in range(copies):
                stream.write(body)
        size = (folder / "big.csv").stat().st_size
        seconds, peak = run(folder, "predict", "run", "big.csv", "-o", "big.out.csv")
        with (folder / "big.csv").open() as stream, (folder / "few.csv").open("w") as few:
            few.writelines(next(stream) for _ in range(CHECKED + 1))
        _, least = run(folder, "predict", "run", "few.csv", "-o", "few.out.csv")
        with (folder / "big.out.csv").open() as big, (folder / "few.out.csv").open() as few:
            # A row's last bits depend on how many are computed together; the last batch of the few is a short one.
            alike = all(next(big) == next(few) for _ in range(CHECKED // 4096 * 4096 + 1))
            lines = sum(1 for _ in big) + CHECKED // 4096 * 4096
        print(f"table: {size / 1e9:.2f} GB, {lines:,} rows, {COLUMNS + 2} columns")
        print(f"predicted in {seconds:.0f} s ({size / 1e6 / seconds:.1f} MB/s)")
        print(f"peak of memory: {peak:.0f} MiB; for {CHECKED:,} rows {least:.0f} MiB")
        print(f"all rows there: {lines == copies * 100_000}; first rows the same as alone: {alike}")
    finally:
        shutil.rmtree(folder)


if __name__ == "__main__":
    main()
