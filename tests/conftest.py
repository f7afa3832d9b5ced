import pytest
import torch

torch.set_num_threads(1)


def pytest_addoption(parser):
    parser.addoption("--device", choices=("cpu", "cuda"), default="cpu", help="where the tensors of the tests live")


@pytest.fixture(scope="session")
def device(request):
    return torch.device(request.config.getoption("--device"))
