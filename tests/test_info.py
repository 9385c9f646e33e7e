import json
import platform

import torch

import hdnn
from hdnn.info import info


def test_it_says_what_runs_here():
    facts = info()
    assert facts["versions"]["hdnn"] == hdnn.__version__
    assert facts["versions"]["torch"] == torch.__version__
    assert facts["versions"]["python"] == platform.python_version()
    assert facts["devices"][0] == "cpu"
    assert len(facts["devices"]) == 1 + torch.cuda.device_count()
    assert facts["processors"] >= 1
    assert facts["threads"] == torch.get_num_threads()


def test_every_backend_says_whether_it_runs_here():
    backends = info()["backends"]
    assert backends["eager"] == "available"
    assert set(backends) >= {"eager", "native"}
    assert all(isinstance(said, str) and said for said in backends.values())


def test_it_is_plain_values():
    assert json.loads(json.dumps(info())) == info()


def test_it_names_cuda_devices(monkeypatch):
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda i: f"Card {i}")
    assert info()["devices"] == ["cpu", "cuda:0 (Card 0)", "cuda:1 (Card 1)"]
