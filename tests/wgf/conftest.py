import pytest
import torch


@pytest.fixture(autouse=True)
def double(device):
    """float64 on the device under test by default, so that a tolerance speaks of the formula; every test starts from one seed."""
    torch.set_default_dtype(torch.float64)
    torch.manual_seed(0)
    with device:
        yield
    torch.set_default_dtype(torch.float32)
