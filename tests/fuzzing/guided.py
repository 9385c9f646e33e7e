"""Fuzz one reader with Atheris (libFuzzer for Python), which is not among the packages of `make setup`.

    python tests/fuzzing/guided.py READER FOLDER [--seconds 600] [--seed 0]

Atheris sees the lines and comparisons of hdnn, json, csv and gzip, and keeps what reaches new ones in FOLDER/corpus;
`structure.py` makes most of the changes, libFuzzer the others. Errors that are not in `readers.ALLOWED` are kept in
FOLDER/findings, and the fuzzer goes on; after a crash or a hang of its process a new one goes on from the corpus. Each
input has 20 s and 1 GiB beyond the imports. A second call with more seconds goes on where the first ended.
"""

import argparse
import contextlib
import hashlib
import json
import random
import resource
import subprocess
import sys
import tempfile
import time
import traceback
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

ROOM, LIMIT = 2**30, 20


def child(reader, folder, seconds, seed):
    """Read what libFuzzer makes until the time is over; libFuzzer ends the process."""
    import atheris

    with atheris.instrument_imports(include=["hdnn", "json", "csv", "gzip"]):
        import torch

        from fuzzing.readers import ALLOWED, READERS, make
        from fuzzing.structure import restructured

    torch.set_num_threads(1)
    place = Path(tempfile.mkdtemp(dir=folder))
    kept = make(place)[reader]
    for i, content in enumerate(kept):
        (folder / "corpus" / f"valid-{i}").write_bytes(content)
    count = {"tried": 0, "refused": 0, "read": 0}
    size = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (size + ROOM, size + ROOM))
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss

    def one(content):
        (folder / "now").write_bytes(content)
        count["tried"] += 1
        try:
            READERS[reader](place, content)
            count["read"] += 1
        except ALLOWED:
            count["refused"] += 1
        except (Exception, MemoryError):
            found = traceback.format_exc()
            name = hashlib.sha256((found.splitlines()[-1][:60] + found.splitlines()[-3]).encode()).hexdigest()[:12]
            if not (folder / "findings" / name).exists():
                (folder / "findings" / name).write_bytes(content)
                (folder / "findings" / f"{name}.txt").write_text(found)
        if count["tried"] % 50 == 0:
            grown = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) // 1024
            (folder / "count.json").write_text(json.dumps({**count, "MiB": grown}))

    def mutate(content, most, number):
        choose = random.Random(number)
        if choose.random() < 0.75:
            with contextlib.suppress(Exception):  # beyond its parser
                # Changes of changes soon end at the first check, so half of them start from a valid file.
                start = content if choose.random() < 0.5 else choose.choice(kept)
                return restructured(start, kept, choose, reader)[:most]
        return atheris.Mutate(content, most)

    options = [
        f"-max_total_time={seconds:.0f}",
        f"-seed={seed}",
        f"-timeout={LIMIT}",
        "-rss_limit_mb=0",
        "-max_len=65536",
    ]
    names = [
        f"-artifact_prefix={folder / 'findings'}/",
        "-print_final_stats=1",
        "-verbosity=0",
        "-len_control=0",
        "-mutate_depth=2",
    ]
    atheris.Setup([sys.argv[0], *options, *names, str(folder / "corpus")], one, custom_mutator=mutate)
    atheris.Fuzz()


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("reader")
    parser.add_argument("folder", type=Path)
    parser.add_argument("--seconds", type=float, default=600)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--child", action="store_true", help=argparse.SUPPRESS)
    asked = parser.parse_args()
    folder = asked.folder.resolve() / asked.reader
    for part in ("corpus", "findings"):
        (folder / part).mkdir(parents=True, exist_ok=True)
    if asked.child:
        child(asked.reader, folder, asked.seconds, asked.seed)
        return
    record = folder / "total.json"
    total = {"seconds": 0, "tried": 0, "refused": 0, "read": 0, "MiB": 0, "deaths": 0}
    if record.exists():
        total = json.loads(record.read_text())
    while total["seconds"] < asked.seconds - 1:
        (folder / "count.json").unlink(missing_ok=True)
        start, left = time.monotonic(), asked.seconds - total["seconds"]
        seed = asked.seed + int(total["tried"]) + 1
        command = [sys.executable, __file__, asked.reader, str(asked.folder), "--child", f"--seed={seed}"]
        with (folder / "log").open("ab") as log:
            code = subprocess.run([*command, f"--seconds={left}"], stdout=log, stderr=log).returncode
        if not (folder / "count.json").exists():
            sys.exit(f"{asked.reader}: nothing was read; see {folder / 'log'}")
        count = json.loads((folder / "count.json").read_text())
        for name in ("tried", "refused", "read"):
            total[name] += count[name]
        total["MiB"] = max(total["MiB"], count["MiB"])
        total["seconds"] += round(time.monotonic() - start)
        if code:
            total["deaths"] += 1
            (folder / "findings" / f"death-{total['deaths']}").write_bytes((folder / "now").read_bytes())
        record.write_text(json.dumps(total))
    findings = sorted(path.name for path in (folder / "findings").iterdir())
    print(json.dumps({"reader": asked.reader, **total, "findings": findings}), flush=True)


if __name__ == "__main__":
    main()
