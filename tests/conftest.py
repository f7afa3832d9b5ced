import gc
from contextlib import suppress

import pytest
import torch
from hypothesis import settings

with suppress(ImportError):
    import submitit  # noqa: F401 - its import closes all handlers of logging, and absl's, imported before, then closes pytest's own output

torch.set_num_threads(1)
gc.set_threshold(20_000, 10, 10)  # of test_contract.py it took a fifth of the time
settings.register_profile("repeatable", derandomize=True, deadline=None, max_examples=12)  # the same examples on every machine
settings.load_profile("repeatable")


def pytest_addoption(parser):
    parser.addoption("--device", choices=("cpu", "cuda"), default="cpu", help="where the tensors of the tests live")


@pytest.hookimpl(trylast=True)
def pytest_collection_finish():
    """Modules and tests stay to the end: the garbage collector need not look at them again."""
    gc.collect()
    gc.freeze()


def pytest_sessionfinish():
    gc.unfreeze()  # or libraries tell of what is left at the end


@pytest.fixture(scope="session")
def device(request):
    return torch.device(request.config.getoption("--device"))


@pytest.fixture(scope="session")
def draw(device):
    """draw(M, d, seed=0): standard normal numbers of that shape, float64 unless told, on the device under test."""

    def draw(*shape, seed=0, dtype=torch.float64):
        return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64).to(device, dtype)

    return draw


@pytest.fixture
def double():
    """float64 by default, so that a tolerance speaks of the formula."""
    torch.set_default_dtype(torch.float64)
    yield
    torch.set_default_dtype(torch.float32)


@pytest.fixture
def recordings(monkeypatch):
    """Machine code is the recording, run as it is; a list of these graphs, one a compilation."""
    seen = []

    def record(graph, examples, options):
        seen.append(graph)
        return graph

    monkeypatch.setattr("torch._inductor.compile", record)
    return seen
