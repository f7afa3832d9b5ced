"""What is recorded, and what is refused."""

import pytest
import torch

from wgf import svgd, transport
from wgf.compiler import machine_code
from wgf.mlp import StackedMLP


def test_a_recording_holds_for_other_numbers_and_for_what_it_changes(recordings):
    def function(pair, held):
        x, score = pair
        held[0].add_(x.sum())
        return {"v": svgd.velocity(x, score), "w2": transport.eq9_mean(x, score)}

    draw = [torch.randn(4, 3, generator=torch.Generator().manual_seed(k)) for k in range(4)]
    held, other = torch.zeros(()), torch.zeros(())
    quick = machine_code(function, (draw[0], draw[1]), (held,))
    assert held.item() == pytest.approx(draw[0].sum().item())  # recording runs it once
    found, expected = quick((draw[2], draw[3]), (other,)), function((draw[2], draw[3]), (held.zero_(),))
    torch.testing.assert_close(found, expected)
    torch.testing.assert_close(other, held)


@pytest.mark.parametrize("w2", [transport.exact, transport.entropic, transport.debiased])
def test_what_looks_at_numbers_is_refused(recordings, w2):
    x = torch.randn(4, 3, generator=torch.Generator().manual_seed(0))
    with pytest.warns(RuntimeWarning, match="^not compiled: "):
        assert machine_code(w2, x, 2.0 * x) is None


def test_a_network_that_was_evaluated_before_is_recorded_with_its_parameters(recordings):
    net = StackedMLP([1], [3, 4, 1], "tanh", [torch.Generator().manual_seed(0)])
    x = torch.randn(1, 5, 3, generator=torch.Generator().manual_seed(1))
    net(x)  # it keeps views of its parameters
    quick, other = machine_code(lambda x, theta: net(x), x, net.theta), 2.0 * net.theta
    found = quick(x, other)
    net.theta.copy_(other)
    torch.testing.assert_close(found, net(x))
