import pytest
import torch


@pytest.fixture(autouse=True)
def double():
    """float64 by default, so that a tolerance speaks of the formula."""
    torch.set_default_dtype(torch.float64)
    yield
    torch.set_default_dtype(torch.float32)
