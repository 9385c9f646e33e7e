"""A run of a small network that tests of its files use."""

import dataclasses

import torch

from hdnn.networks import NetworkConfig, build_network
from hdnn.runs import Run, RunConfig, versions

NETWORK = NetworkConfig("classification", (3,), 4, model="h2", features=4, layers=3, step=0.2)
CONFIG = RunConfig(
    data={"data": "digits", "seed": 0},
    network=NETWORK,
    recipe={"epochs": 3},
    encoder={"kind": "table"},
    target={"kind": "target"},
    seed=7,
    command="hdnn train digits",
    versions=versions(),
)


def saved(folder, network=NETWORK, dtype=torch.float32):
    run = Run.create(folder, dataclasses.replace(CONFIG, network=network))
    model = build_network(network).to(dtype)
    for p in model.head.parameters():
        torch.nn.init.normal_(p)
    run.save_network(model)
    return run, model
