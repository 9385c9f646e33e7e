"""Change valid files at random and read them, in search of a crash, a hang or a loss of memory.

    python tests/fuzzing/fuzz.py READER [--seconds 600] [--seed 0] [--findings FOLDER]

A child process reads one file after the other with 1 GiB of address space beyond what it has after its imports, and
20 s of processor time for each. An error that is not in `readers.ALLOWED`, a child that dies, and one that runs out of
time are findings: their files are kept. Files that reach new lines of hdnn are changed further.
"""

import argparse
import contextlib
import json
import multiprocessing
import random
import resource
import signal
import struct
import sys
import tempfile
import time
import traceback
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from fuzzing.structure import restructured

ROOM, LIMIT = 2**30, 20.0
NASTY = [
    None, True, False, 0, -1, 1, 2**31, 2**63, 2**64, 10**12, 10**400, 1e308, -0.0, 1e-320, float("nan"), float("inf"),
    "", "../../etc/passwd", "/etc/passwd", "\x1b[31m", "\0", "a" * 10000, [], {}, [[]], [0], ["a", "a"],
    {"kind": "table"}, "ms1", "mnist", "classification", "regression", "image", "numeric", [2**24], [1, 2**12, 2**12],
]  # fmt: skip
TOKENS = [
    b"\0", b'"', b'""', b",", b"\n", b"\r", b"\r\n", b"\t", b"\xff", b"\xef\xbb\xbf", b"nan", b"inf", b"1e999", b"True",
    b"=1+1", b"-", b"\x1b[2J", b"\x1f\x8b", b"\0\0\x08\x03", b"PAR1", b"{", b"}", b"[" * 5000, b":", b"9" * 400,
    b"\xff" * 4, b"\xff" * 8, b"\x7f\xff\xff\xff", b"\0\0\0\x80", b"\x01", b"\x80\x80\x80\x80\x80\x80\x80\x80\x80\x01",
]  # fmt: skip


def changed(content, kept, choose, reader):
    """A file with a few random changes, some of them to its bytes, some to what they mean."""
    for _ in range(choose.choice((1, 1, 2, 4))):
        if choose.random() < 0.4:
            with contextlib.suppress(Exception):  # what was changed before may be beyond its parser
                content = restructured(content, kept, choose, reader)
        elif reader in ("config", "metrics") and choose.random() < 0.7:
            content = changed_json(content, choose)
        elif reader in ("weights", "checkpoint") and choose.random() < 0.6:
            content = changed_head(content, choose)
        else:
            content = changed_bytes(content, kept, choose)
    return content[: 2**20]


def changed_bytes(content, kept, choose):
    place = choose.randrange(len(content) + 1)
    length = choose.choice((1, 1, 2, 4, 8, 64, 1000))
    match choose.randrange(7):
        case 0:
            if not content:
                return b"\0"
            flipped = bytearray(content)
            flipped[place % len(content)] ^= 1 << choose.randrange(8)
            return bytes(flipped)
        case 1:
            return content[:place] + content[place + length :]
        case 2:
            return content[:place] + content[place : place + length] * choose.choice((2, 3, 100)) + content[place:]
        case 3:
            return content[:place] + choose.choice(TOKENS) + content[place:]
        case 4:
            token = choose.choice(TOKENS)
            return content[:place] + token + content[place + len(token) :]
        case 5:
            return content[:place]
        case _:
            other = choose.choice(kept)
            return content[:place] + other[choose.randrange(len(other) + 1) :]


def changed_json(content, choose):
    try:
        document = json.loads(content)
    except (ValueError, RecursionError):
        return content
    spots, heap = [], [document]
    while heap:
        part = heap.pop()
        keys = part.keys() if isinstance(part, dict) else range(len(part)) if isinstance(part, list) else ()
        spots += [(part, key) for key in keys]
        heap += [part[key] for key in keys]
    if not spots:
        return content
    part, key = choose.choice(spots)
    action = choose.randrange(6)
    if action == 0:
        del part[key]
    elif action == 1 and isinstance(part, list):
        part.insert(key, choose.choice(NASTY))
    elif action == 1:
        part[choose.choice(["", "kind", "__proto__", "x" * 1000, key + "x"])] = part[key]
    elif action == 2 and isinstance(part[key], int | float):
        part[key] = choose.choice((-part[key], part[key] * 2, part[key] * 10**9, part[key] + 1))
    else:
        part[key] = choose.choice(NASTY)
    try:
        return json.dumps(document).encode()
    except ValueError:
        return content


def changed_head(content, choose):
    """Another header of a safetensors file, with a length that fits it, mostly."""
    length = int.from_bytes(content[:8], "little")
    head = changed_json(content[8 : 8 + length], choose)
    said = len(head) if choose.random() < 0.9 else choose.choice((0, 2**40, len(head) // 2, 2**63))
    return struct.pack("<Q", said) + head + content[8 + length :]


class Lines:
    """The lines of hdnn that were reached."""

    def __init__(self):
        self.seen, self.new = set(), 0

    def __call__(self, frame, event, argument):
        return self.line if "/hdnn/" in frame.f_code.co_filename else None

    def line(self, frame, event, argument):
        if event == "line" and (frame.f_code, frame.f_lineno) not in self.seen:
            self.seen.add((frame.f_code, frame.f_lineno))
            self.new += 1
        return self.line


def child(reader, seconds, seed, place, pipe):
    """Read changed files until the time is over."""
    import torch

    from fuzzing.readers import ALLOWED, READERS, make

    torch.set_num_threads(1)
    choose, lines = random.Random(seed), Lines()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        kept = make(folder)[reader]
        for content in kept:
            with contextlib.suppress(ValueError):  # a run on images has other weights
                READERS[reader](folder, content)
        place.write_bytes(b"")
        size = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
        resource.setrlimit(resource.RLIMIT_AS, (size + ROOM, size + ROOM))
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        start = time.monotonic()
        tried = refused = 0
        while time.monotonic() - start < seconds:
            content = changed(choose.choice(kept), kept, choose, reader)
            place.write_bytes(content)
            lines.new = 0
            signal.setitimer(signal.ITIMER_PROF, LIMIT)
            sys.settrace(lines)
            finding = None
            try:
                READERS[reader](folder, content)
            except ALLOWED:
                refused += 1
            except (Exception, MemoryError):
                finding = traceback.format_exc()
            finally:
                sys.settrace(None)
                signal.setitimer(signal.ITIMER_PROF, 0)
            tried += 1
            if lines.new and len(kept) < 300:
                kept.append(content)
            grown = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
            if grown > ROOM // 1024:
                finding = finding or f"memory\n\n{grown} KiB"
            if finding or tried % 20 == 0:
                pipe.send((tried, refused, grown // 1024, len(lines.seen), finding, content if finding else b""))
        pipe.send((tried, refused, grown // 1024, len(lines.seen), None, b""))


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("reader")
    parser.add_argument("--seconds", type=float, default=600)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--findings", type=Path, default=Path("findings"))
    asked = parser.parse_args()
    asked.findings.mkdir(parents=True, exist_ok=True)
    place = asked.findings / f"{asked.reader}.now"
    context = multiprocessing.get_context("spawn")
    total, findings, seen = {"tried": 0, "refused": 0, "MiB": 0, "lines": 0, "deaths": 0}, 0, set()
    end, seed = time.monotonic() + asked.seconds, asked.seed
    while (left := end - time.monotonic()) > 1:
        mine, theirs = context.Pipe()
        process = context.Process(target=child, args=(asked.reader, left, seed, place, theirs))
        process.start()
        theirs.close()
        last = (0, 0, 0, 0)
        try:
            while True:
                *last, finding, content = mine.recv()
                key = finding and finding.splitlines()[-1][:60] + finding.splitlines()[-3][:80]
                if finding and key not in seen:
                    seen.add(key)
                    findings += 1
                    (asked.findings / f"{asked.reader}-{findings}").write_bytes(content)
                    print(f"FINDING {asked.reader}-{findings}\n{finding}", flush=True)
        except EOFError:
            process.join()
        total["tried"] += last[0]
        total["refused"] += last[1]
        total["MiB"] = max(total["MiB"], last[2])
        total["lines"] = max(total["lines"], last[3])
        if process.exitcode:
            total["deaths"] += 1
            seed += 1
            name = f"{asked.reader}-death-{total['deaths']}"
            (asked.findings / name).write_bytes(place.read_bytes())
            print(f"DEATH {name}: exit code {process.exitcode}", flush=True)
    print(json.dumps({"reader": asked.reader, "seconds": asked.seconds, **total, "findings": findings}), flush=True)


if __name__ == "__main__":
    main()
