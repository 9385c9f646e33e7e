"""Run scripts as torchrun does, but import PyTorch once for all: `python forked.py RANKS:SCRIPT RANKS:SCRIPT ...`."""

import os
import runpy
import socket
import sys

import torch
import torch._dynamo  # which exchanges import, slowly
import torch.distributed.checkpoint.state_dict
import torch.distributed.fsdp


def start(ranks: int, script: str) -> int:
    """How many of the ranks failed."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    children = []
    for rank in range(ranks):
        if (child := os.fork()) == 0:
            place = {"RANK": rank, "LOCAL_RANK": rank, "WORLD_SIZE": ranks, "MASTER_PORT": port}
            os.environ |= {"MASTER_ADDR": "127.0.0.1", **{name: str(value) for name, value in place.items()}}
            runpy.run_path(script, run_name="__main__")
            sys.exit(0)
        children.append(child)
    return sum(os.waitpid(child, 0)[1] != 0 for child in children)


if __name__ == "__main__":
    torch.set_num_threads(1)
    for word in sys.argv[1:]:
        count, name = word.split(":")
        print(f"{name} on {count}:", flush=True)
        if start(int(count), name):
            sys.exit(f"{name} failed")
