"""Plain evaluations of networks, one layer after the other by torch's functions: what the stacked networks are measured against."""

import torch
from torch.nn.functional import elu, layer_norm

PHI = {
    "tanh": torch.tanh,
    "relu": lambda x: torch.where(x > 0.0, x, torch.zeros_like(x)),
    "elu": lambda x: torch.where(x > 0.0, x, torch.expm1(x)),
}


def seeds(*numbers):
    return [torch.Generator().manual_seed(k) for k in numbers]


def draw(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def leaf(x):
    """A copy of x to differentiate in."""
    return x.detach().clone().requires_grad_()


def single(net, theta, x):
    """The MLP at one vector theta (P,) on inputs (n, d), layer by layer."""
    start = 0
    for i, (rows, columns) in enumerate(zip(net.sizes, net.sizes[1:], strict=False)):
        if i == 1 and net.activation == "layernorm":
            x = torch.tanh(layer_norm(x, x.shape[-1:], *theta[-2 * rows :].chunk(2)))
        elif i:
            x = (elu if net.activation == "layernorm" else PHI[net.activation])(x)
        weight, bias = theta[start : start + (rows + 1) * columns].split([rows * columns, columns])
        x, start = x @ weight.reshape(rows, columns) + bias, start + (rows + 1) * columns
    return x


def evaluate(net, theta, *inputs):
    """The stack of networks one by one: every input copied along the axes that it lacks."""
    stack, rest = theta.shape[:-1], inputs[-1].shape[theta.ndim - 1 : -1]
    x = torch.cat([x.expand(*stack, *rest, x.shape[-1]) for x in inputs], -1).reshape(stack.numel(), -1, sum(x.shape[-1] for x in inputs))
    y = torch.stack([single(net, *pair) for pair in zip(theta.reshape(len(x), -1), x, strict=True)])
    return y.reshape(*stack, *rest, -1)


def add_to_heads(net, theta, shift):
    """Shifts the outputs of the networks at theta, by (*stack, 1, out)."""
    net.layers(theta)[-1][1].add_(shift)


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
