"""Plain evaluations of networks, one layer after the other by torch's functions: what the stacked networks are measured against."""

import math

import torch
from torch import nn
from torch.nn.functional import elu, layer_norm

from wgf.agents.training import checkpoint

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


class Residual(nn.Module):
    """One residual network of torch's layers, as ``wgf.residual.ResidualNetwork`` writes it."""

    def __init__(self, sizes, blocks, expansion, norm):
        super().__init__()
        (inputs, width, out), wide = sizes, expansion * sizes[1]
        self.batch = norm == "batch"

        def normal(n):
            return nn.BatchNorm1d(n, eps=1e-5, momentum=0.01) if self.batch else nn.LayerNorm(n, eps=1e-5)

        units = [inputs, *[wide, width] * blocks]
        self.norms = nn.ModuleList([normal(n) if self.batch or k else nn.Identity() for k, n in enumerate(units)])
        pairs = [(inputs, width), *[(width, wide), (wide, width)] * blocks]
        self.layers = nn.ModuleList([nn.Linear(i, o, bias=False) for i, o in pairs])
        self.rms, self.last = nn.RMSNorm(width, eps=1e-5), nn.Linear(width, out)

    def forward(self, x):
        x = self.layers[0](self.norms[0](x))
        for k in range(1, len(self.layers), 2):
            h = torch.relu(self.norms[k](self.layers[k](x)))
            x = x + torch.relu(self.norms[k + 1](self.layers[k + 1](h)))
        return self.last(self.rms(x))

    def normal(self):
        """The norms that there are."""
        return [n for n in self.norms if not isinstance(n, nn.Identity)]

    def learned(self):
        """What a step moves, in theta's order: matrices as (in, out), norms, the last layer."""
        norms = [p for n in self.normal() for p in (n.weight, n.bias)]
        return [*(layer.weight.T for layer in self.layers), *norms, self.rms.weight, self.last.weight.T, self.last.bias]

    def remembered(self):
        """What batch norm remembers, in theta's order."""
        return [t for n in self.normal() if self.batch for t in (n.running_mean, n.running_var)]

    def flat(self):
        """theta, (P,)."""
        return torch.cat([t.detach().flatten() for t in (*self.learned(), *self.remembered())])

    def slope(self):
        """The gradient in what a step moves, of the last backward pass."""
        norms = [p.grad for n in self.normal() for p in (n.weight, n.bias)]
        last = [self.rms.weight.grad, self.last.weight.grad.T, self.last.bias.grad]
        return torch.cat([g.flatten() for g in (*(layer.weight.grad.T for layer in self.layers), *norms, *last)])

    def take(self, theta):
        """Reads theta (P,), number by number."""
        parts = [*self.learned(), *self.remembered()]
        for part, values in zip(parts, theta.split([part.numel() for part in parts]), strict=True):
            part.detach().copy_(values.view(part.shape))
        return self

    @torch.no_grad()
    def settle(self):
        """Scales every unit's weights to length 1, gain and offset together and the last gain to the square root of the units."""
        for layer in (*self.layers, self.last):
            layer.weight /= layer.weight.norm(dim=1, keepdim=True)
        for both in (*([n.weight, n.bias] for n in self.normal()), [self.rms.weight]):
            scale = math.sqrt(len(both[0])) / torch.cat(both).norm()
            for part in both:
                part *= scale


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


def assert_trained_as_alone(runs, infos):
    """Of three trainings two are of the same seeds, and equal bit for bit; the third has the second of these seeds alone."""
    assert_equal(runs[0].tensors(), runs[1].tensors())
    assert_equal(*infos[:2])
    for tag, value in infos[2].items():
        torch.testing.assert_close(infos[0][tag][1:], value, rtol=1e-9, atol=1e-11)
    mine = checkpoint.seed_slice(runs[0].state, 1)
    for name, t in checkpoint.seed_slice(runs[2].state, 0).items():
        torch.testing.assert_close(mine[name], t, rtol=1e-9, atol=1e-9, msg=lambda m, name=name: f"{name}: {m}")
