"""Test accuracy of the default set-ups over several seeds: mean, standard deviation, every value, the command.

    python benchmarks/accuracy.py digits swiss-roll double-moons double-circles
    python benchmarks/accuracy.py mnist --data-folder FOLDER

The seed drives the data (random points, or the split), the initial weights and the batches. Nothing is chosen here:
each value is the last weights of one run of `hdnn train`.
"""

from __future__ import annotations

import argparse
import json
import shlex
import statistics
import subprocess
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path


def run(command: list[str], folder: Path) -> dict[str, float]:
    """The metrics of one run of the command line."""
    whole = [sys.executable, "-c", "from hdnn.cli import main; main()", *command[1:], "--json", "--output", str(folder)]
    finished = subprocess.run(whole, capture_output=True, text=True, check=False)
    if finished.returncode:
        raise SystemExit(f"{shlex.join(command)} failed:\n{finished.stderr}")
    metrics: dict[str, float] = json.loads(finished.stdout)
    return metrics


def main() -> None:
    """Print a Markdown table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", nargs="+", help="data sets that `hdnn train` knows")
    parser.add_argument("--seeds", type=int, default=5, help="number of seeds")
    parser.add_argument("--first", type=int, default=0, help="the first of them")
    parser.add_argument("--jobs", type=int, default=2, help="runs at a time")
    parser.add_argument("--data-folder", help="where the MNIST files are")
    chosen = parser.parse_args()
    extra = ["--data-folder", chosen.data_folder] if chosen.data_folder else []
    print("| command, seeds | test accuracy, % | each | seconds a run |\n|---|---|---|---|", flush=True)
    with tempfile.TemporaryDirectory() as place, ThreadPoolExecutor(chosen.jobs) as pool:
        for data in chosen.data:
            seeds = range(chosen.first, chosen.first + chosen.seeds)
            commands = [["hdnn", "train", data, "--seed", str(seed), *extra] for seed in seeds]
            folders = [Path(place) / f"{data}-{seed}" for seed in seeds]
            metrics = list(pool.map(run, commands, folders))
            accuracies = [100 * result["test_accuracy"] for result in metrics]
            spread = statistics.stdev(accuracies) if len(accuracies) > 1 else float("nan")
            each = ", ".join(f"{accuracy:.2f}" for accuracy in accuracies)
            seconds = statistics.mean(result["seconds"] for result in metrics)
            print(
                f"| `hdnn train {data} --seed S`, S = {seeds[0]} … {seeds[-1]} "
                f"| {statistics.mean(accuracies):.2f} ± {spread:.2f} | {each} | {seconds:.0f} |",
                flush=True,
            )


if __name__ == "__main__":
    main()
