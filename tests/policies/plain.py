"""Plain evaluations that autograd records: what the stacked networks and their written-out gradients are measured against."""

import torch


def seeds(*numbers):
    return [torch.Generator().manual_seed(k) for k in numbers]


def draw(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def leaf(x):
    """A copy of x to differentiate in."""
    return x.detach().clone().requires_grad_()


def evaluate(net, theta, *inputs, phi=torch.tanh):
    """The stacked network at theta: every input copied along the axes that it lacks, one product and one bias after the other."""
    rest = inputs[-1].shape[len(net.stack) : -1]
    x = torch.cat([x.expand(*net.stack, *rest, x.shape[-1]) for x in inputs], -1).flatten(len(net.stack), -2)
    for i, (w, b) in enumerate(net.layers(theta)):
        x = (phi(x) if i else x) @ w + b
    return x.unflatten(-2, rest)


def add_to_heads(policy, shift):
    """Shift the outputs of a policy's networks."""
    with torch.no_grad():
        policy.net.layers(policy.theta)[-1][1].add_(shift)


def assert_some_are_clamped(log_std):
    for bound in (-20.0, 2.0):
        assert len((log_std == bound).unique()) == 2  # at the bound and elsewhere


def close(got, want):
    """Equal but for the order of the sums: products of tens of numbers of order 1 round to a few 1e-15."""
    torch.testing.assert_close(got, want, rtol=1e-11, atol=1e-12)


def assert_equal(found, expected):
    """Tensors by name, bit for bit."""
    assert found.keys() == expected.keys()
    for name, t in expected.items():
        assert torch.equal(found[name], t), name
