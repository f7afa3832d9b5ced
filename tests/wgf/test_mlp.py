"""A stacked network is its networks one by one, evaluated by plain products; autograd of those is its gradient."""

import math

import pytest
import torch
from torch import nn
from torch.func import grad, jacfwd, jacrev, jvp, vjp, vmap
from torch.fx.experimental.proxy_tensor import make_fx

from tests.policies.plain import PHI, close, draw, evaluate, leaf, seeds
from wgf.agents import sac
from wgf.agents.training.protocol import Batch
from wgf.mlp import MLP, ModuleNetwork, side_by_side
from wgf.policies.critics import QNetwork

pytestmark = pytest.mark.usefixtures("double")
KINDS = [*PHI, "layernorm"]


def started(net, stack):
    """A theta where biases, LayerNorm's gains and its offsets have left where they start."""
    theta = net.init(stack, seeds(*range(stack[0])))
    return theta + 0.3 * draw(*theta.shape, seed=7)


def test_one_hidden_unit_by_hand():
    theta = torch.tensor([[0.5, -2.0, 0.1, 3.0, 0.25]])
    y = MLP((2, 1, 1))(theta, torch.tensor([[[1.5, 0.75]]]))
    assert y.shape == (1, 1, 1)
    assert y.item() == pytest.approx(3.0 * math.tanh(0.5 * 1.5 - 2.0 * 0.75 + 0.1) + 0.25, rel=1e-14)


def test_layernorm_by_hand():
    """Two units 1 and 3: mean 2, variance 1; gains 2 and 1, offsets 0 and .5."""
    theta = torch.tensor([[1.0, 3.0, 0.0, 0.0, 1.0, 10.0, 0.0, 2.0, 1.0, 0.0, 0.5]])
    y, unit = MLP((1, 2, 1), "layernorm")(theta, torch.ones(1, 1, 1)), 1.0 / math.sqrt(1.0 + 1e-5)
    assert y.item() == pytest.approx(math.tanh(-2.0 * unit) + 10.0 * math.tanh(unit + 0.5), rel=1e-14)


@pytest.mark.parametrize("activation", KINDS)
def test_what_a_compiler_records_of_a_network_is_the_network(activation):
    net, x = MLP((3, 5, 4, 2), activation), 2.0 * draw(2, 6, 3)
    theta = started(net, (2,))

    def value_and_gradient(theta, x):
        theta = leaf(theta)
        y = net(theta, x)
        return y.detach(), torch.autograd.grad(y.square().sum(), theta)[0]

    recorded = make_fx(value_and_gradient)(theta, x)
    for found, expected in zip(recorded(theta, x), value_and_gradient(theta, x), strict=True):
        close(found, expected)


def test_layers_are_views_of_theta():
    net, theta = MLP((2, 3, 1)), torch.arange(13.0)
    for (w, b), (weight, bias) in zip(net.layers(theta), (([[0, 1, 2], [3, 4, 5]], [[6, 7, 8]]), ([[9], [10], [11]], [[12]])), strict=True):
        for view, value in ((w, weight), (b, bias)):
            assert torch.equal(view, torch.tensor(value, dtype=theta.dtype))
            view.zero_()
    assert not theta.any()
    theta = net.init((2, 1), seeds(0, 1))
    assert [tuple(x.shape) for layer in net.layers(theta) for x in layer] == [(2, 1, 2, 3), (2, 1, 1, 3), (2, 1, 3, 1), (2, 1, 1, 1)]


SHAPES = [  # of the stack and of the inputs
    pytest.param((3,), [(3, 5, 4)], id="seeds"),
    pytest.param((3,), [(3, 4)], id="one input of each seed"),
    pytest.param((3,), [(3, 5, 4, 2)], id="seeds, particles"),
    pytest.param((3, 2), [(3, 2, 5, 4)], id="members"),
    pytest.param((3, 2), [(3, 2, 5, 4, 2)], id="members, particles"),
    pytest.param((1, 1), [(1, 1, 5, 4)], id="one network"),
    pytest.param((3,), [(3, 5, 3), (3, 5, 1), (3, 5, 2)], id="three inputs"),
    pytest.param((3, 2), [(3, 1, 5, 4)], id="one input for all members"),
    pytest.param((3,), [(3, 5, 1, 3), (3, 5, 4, 2)], id="one state for all particles"),
    pytest.param((3, 2), [(3, 1, 5, 1, 3), (3, 1, 5, 4, 2)], id="one state for all particles and members"),
    pytest.param((3, 2), [(3, 1, 5, 1, 3), (3, 2, 5, 4, 2)], id="particles of their own for each member"),
    pytest.param((3,), [(3, 1, 1, 3), (3, 1, 4, 1), (3, 5, 4, 2)], id="ever more axes"),
    pytest.param((1, 1), [(1, 1, 5, 1, 3), (1, 1, 5, 1, 2)], id="one network, one particle"),
]


@pytest.mark.parametrize(
    ("activation", "hidden"),
    [(kind, hidden) for kind in KINDS for hidden in [(), (6,), (6, 7), (6, 7, 5)] if hidden or kind != "layernorm"],
)
@pytest.mark.parametrize(("stack", "shapes"), SHAPES)
def test_values_and_gradients_are_those_of_single_networks_on_copies(activation, hidden, stack, shapes):
    net = MLP((sum(s[-1] for s in shapes), *hidden, 2), activation)
    theta, inputs = leaf(started(net, stack)), [leaf(draw(*s, seed=k)) for k, s in enumerate(shapes)]
    y, expected = net(theta, *inputs), evaluate(net, theta, *inputs)
    assert y.shape == (*stack, *shapes[-1][len(stack) : -1], 2)
    close(y, expected)
    g = draw(*expected.shape, seed=9)
    for got, want in zip(
        torch.autograd.grad((g * y).sum(), (theta, *inputs)), torch.autograd.grad((g * expected).sum(), (theta, *inputs)), strict=True
    ):
        close(got, want)


def test_inputs_may_be_strided_and_stay_as_they_were():
    net = MLP((3 + 2, 8, 2))
    theta, obs, action = started(net, (2, 3)), draw(4, 2, 1, 3, seed=1).movedim(0, 2), draw(2, 1, 4, 4, seed=2)[..., ::2]
    kept = [x.clone() for x in (theta, obs, action)]
    assert torch.equal(net(theta, obs, action), net(theta, obs.contiguous(), action.contiguous()))
    assert all(torch.equal(x, y) for x, y in zip((theta, obs, action), kept, strict=True))


# --- derivatives by torch.func ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("activation", KINDS)
def test_products_with_the_jacobian_are_limits_of_differences(activation):
    net = MLP((3 + 2, 6, 7, 2), activation)
    theta, v, obs, xi = started(net, (2,)), draw(2, net.init((1,), seeds(0)).shape[-1], seed=1), draw(2, 5, 1, 3), draw(2, 5, 4, 2, seed=2)

    def at(theta):
        return net(theta, obs, xi)

    (y, along), h = jvp(at, (theta,), (v,)), 1e-6
    assert torch.equal(y, at(theta))
    torch.testing.assert_close(along, (at(theta + h * v) - at(theta - h * v)) / (2.0 * h), rtol=1e-6, atol=1e-6)  # eps y / h, h^2 y'''
    g = draw(*y.shape, seed=3)
    close((g * along).sum(), (v * vjp(at, theta)[1](g)[0]).sum())


@pytest.mark.parametrize("activation", KINDS)
@pytest.mark.parametrize("which", [0, 2])
def test_a_map_over_vectors_or_last_inputs_is_a_loop(activation, which):
    net = MLP((3 + 2, 6, 2), activation)
    args = [started(net, (2,)), draw(2, 5, 1, 3), draw(2, 5, 4, 2, seed=2)]
    many = torch.stack([args[which], args[which] + 0.1, -args[which]])
    found = vmap(lambda x: net(*args[:which], x, *args[which + 1 :]))(many)
    close(found, torch.stack([evaluate(net, *args[:which], x, *args[which + 1 :]) for x in many]))


@pytest.mark.parametrize("jacobian", [jacfwd, jacrev])
@pytest.mark.parametrize("which", [0, 1, 2])
def test_whole_jacobians_are_those_of_single_networks(jacobian, which):
    net = MLP((3 + 2, 6, 2), "layernorm")
    args = [started(net, (2,)), draw(2, 3, 1, 3), draw(2, 3, 4, 2, seed=2)]
    found, expected = (
        jacobian(lambda x, f=f: f(*args[:which], x, *args[which + 1 :]))(args[which]) for f in (net, lambda *args: evaluate(net, *args))
    )
    close(found, expected)


@pytest.mark.parametrize("activation", KINDS)
def test_the_hessian_in_an_input_is_that_of_single_networks(activation):
    net = MLP((3, 6, 1), activation)
    theta, x, v = started(net, (2,)), draw(2, 5, 3), draw(2, 5, 3, seed=1)
    found, expected = (jvp(grad(lambda x, f=f: f(net, theta, x).sum()), (x,), (v,))[1] for f in (MLP.__call__, evaluate))
    close(found, expected)


# --- seeds ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "net", [MLP((4, 6, 1), "relu"), MLP((4, 6, 1), "layernorm"), MLP((4, 6, 1), gain=0.3)], ids=["uniform", "norm", "gain"]
)
def test_seed_k_of_a_stack_starts_and_computes_as_seed_k_alone(net):
    theta, x, g = net.init((3, 2), seeds(7, 8, 9)).requires_grad_(), draw(3, 1, 5, 4), draw(3, 2, 5, 1, seed=1)
    y = net(theta, x)
    (slope,) = torch.autograd.grad((g * y).sum(), theta)
    for k, seed in enumerate((7, 8, 9)):
        one = slice(k, k + 1)
        alone = net.init((1, 2), seeds(seed)).requires_grad_()
        assert torch.equal(theta[one], alone)
        value = net(alone, x[one])
        close(y[one], value)
        close(slope[one], torch.autograd.grad((g[one] * value).sum(), alone)[0])


def test_seeds_do_not_feel_each_other():
    net = MLP((4, 6, 1))
    theta = net.init((3,), seeds(0, 1, 2)).requires_grad_()
    (slope,) = torch.autograd.grad(net(theta, draw(3, 5, 4))[1].sum(), theta)
    assert not slope[[0, 2]].any()
    assert all(part[1].any() for layer in net.layers(slope) for part in layer)


# --- where it starts --------------------------------------------------------------------------------------------------


def test_weights_and_biases_start_uniform_within_one_over_the_root_of_the_fan_in():
    net = MLP((100, 400, 25))
    for layer, fan_in in zip(net.layers(net.init((1,), seeds(0))), (100, 400), strict=True):
        for p in layer:
            z, n = p * math.sqrt(fan_in), p.numel()
            assert z.abs().max() <= 1.0
            assert z.max() > 1.0 - 10.0 / n  # the largest of n uniforms misses its bound by about 2 / n; e^-5 to miss this
            assert z.min() < -1.0 + 10.0 / n
            assert abs(z.mean()) < 4.0 * math.sqrt(1.0 / (3.0 * n))  # variance 1/3
            assert abs(z.square().mean() - 1.0 / 3.0) < 4.0 * math.sqrt(4.0 / (45.0 * n))  # variance of the square 1/5 - 1/9


def test_with_a_gain_weights_start_orthogonal_and_each_networks_are_its_own():
    net = MLP((4, 6, 5, 2), gain=0.01)
    layers = net.layers(net.init((2, 3), seeds(7, 8)))
    for (w, b), gain in zip(layers, (math.sqrt(2.0), math.sqrt(2.0), 0.01), strict=True):
        short = w if w.shape[-2] < w.shape[-1] else w.mT
        torch.testing.assert_close(short @ short.mT, (gain**2 * torch.eye(short.shape[-2])).expand(2, 3, -1, -1))
        assert not b.any()
        flat = w.flatten(0, 1)
        assert all((flat[i] - flat[j]).abs().max() > 0.1 * gain for i in range(6) for j in range(i))


def test_layernorms_gain_and_offset_start_at_one_and_zero_and_are_the_end_of_theta():
    net = MLP((4, 6, 5, 1), "layernorm")
    theta = net.init((2, 3), seeds(0, 1))
    gain, offset = net.affine(theta)
    assert torch.equal(gain, torch.ones(2, 3, 1, 6))
    assert torch.equal(offset, torch.zeros(2, 3, 1, 6))
    assert theta.shape[-1] == 4 * 6 + 6 + 6 * 5 + 5 + 5 + 1 + 12
    assert torch.equal(torch.cat([gain, offset], -1)[..., 0, :], theta[..., -12:])
    assert torch.equal(theta[..., :-12], MLP((4, 6, 5, 1)).init((2, 3), seeds(0, 1)))


def test_after_layernorm_the_scale_of_the_inputs_is_not_felt():
    net, x = MLP((4, 6, 1), "layernorm"), draw(1, 5, 4)
    theta = net.init((1,), seeds(0))
    net.layers(theta)[0][1].zero_()
    torch.testing.assert_close(net(theta, 1e4 * x), net(theta, 1e2 * x), rtol=1e-6, atol=0.0)  # the 1e-5 under the root


def test_an_unknown_activation_and_layernorm_without_a_hidden_layer_are_refused():
    with pytest.raises(ValueError, match="activation is 'gelu'; choose from tanh, relu, elu, layernorm"):
        MLP((3, 4, 1), "gelu")
    with pytest.raises(ValueError, match="hidden is empty; LayerNorm follows the first hidden layer: give at least one"):
        MLP((3, 1), "layernorm")


# --- anybody's module -------------------------------------------------------------------------------------------------


class Residual(nn.Module):
    """Linear, LayerNorm, a skip around a hidden layer, Linear."""

    def __init__(self, size, out, width=7):
        super().__init__()
        self.entry, self.norm, self.inner, self.exit = (
            nn.Linear(size, width),
            nn.LayerNorm(width),
            nn.Linear(width, width),
            nn.Linear(width, out),
        )

    def forward(self, x):
        x = torch.tanh(self.norm(self.entry(x)))
        return self.exit(x + torch.tanh(self.inner(x)))


def filled(module, theta):
    """The module with the numbers of theta (P,) for its parameters."""
    nn.utils.vector_to_parameters(theta, module.parameters())
    return module


@pytest.mark.parametrize(("stack", "shapes"), SHAPES)
def test_a_module_is_evaluated_at_every_vector_of_the_stack(stack, shapes):
    module = Residual(sum(s[-1] for s in shapes), 2)
    net = ModuleNetwork(module)
    theta, inputs = leaf(started(net, stack)), [leaf(draw(*s, seed=k)) for k, s in enumerate(shapes)]
    kept = [p.clone() for p in module.parameters()]
    y = net(theta, *inputs)
    g, rest = draw(*y.shape, seed=9), shapes[-1][len(stack) : -1]
    assert y.shape == (*stack, *rest, 2)
    slopes = torch.autograd.grad((g * y).sum(), (theta, *inputs))
    assert all(torch.equal(p, k) and p.grad is None for p, k in zip(module.parameters(), kept, strict=True))
    copies = [leaf(x) for x in inputs]
    x = torch.cat([x.expand(*stack, *rest, x.shape[-1]) for x in copies], -1)
    for cell in torch.cartesian_prod(*[torch.arange(n) for n in stack]).reshape(-1, len(stack)).tolist():
        alone = filled(Residual(module.entry.in_features, 2), theta[tuple(cell)])
        value = alone(x[tuple(cell)])
        close(y[tuple(cell)], value)
        (g[tuple(cell)] * value).sum().backward(retain_graph=True)
        close(slopes[0][tuple(cell)], torch.cat([p.grad.flatten() for p in alone.parameters()]))
    for got, x in zip(slopes[1:], copies, strict=True):
        close(got, x.grad)


def test_a_module_starts_by_its_own_reset_from_each_seeds_generator_alone():
    net, before = ModuleNetwork(Residual(4, 2)), torch.get_rng_state()
    theta = net.init((3, 2), seeds(7, 8, 9))
    assert torch.equal(torch.get_rng_state(), before)
    assert theta.shape == (3, 2, sum(p.numel() for p in net.module.parameters()))
    assert torch.equal(theta[1:2], net.init((1, 2), seeds(8)))
    assert len(theta[..., 0].unique()) == 6  # no two networks alike
    torch.manual_seed(0)
    assert torch.equal(theta, ModuleNetwork(Residual(4, 2)).init((3, 2), seeds(7, 8, 9)))  # whatever numbers the module holds
    assert not theta.requires_grad
    for row in theta.flatten(0, 1):
        start = filled(Residual(4, 2), row)
        assert torch.equal(start.norm.weight, torch.ones(7))
        assert torch.equal(start.norm.bias, torch.zeros(7))
        assert 0.2 < start.entry.weight.abs().max() <= 0.5  # uniform within 1 / sqrt(4), 28 of them: 0.4^28 to miss the first


def test_a_module_as_mlp_is_the_mlp():
    """torch keeps weights as (out, in): the same network in another order of theta."""
    net, module = MLP((3, 6, 2)), nn.Sequential(nn.Linear(3, 6), nn.Tanh(), nn.Linear(6, 2))
    theta, x = started(net, (2,)), draw(2, 5, 3)
    turned = torch.cat(
        [part.mT.flatten(-2) if k % 2 == 0 else part.flatten(-2) for layer in net.layers(theta) for k, part in enumerate(layer)], -1
    )
    close(ModuleNetwork(module)(turned, x), net(theta, x))


def test_derivatives_pass_through_a_module():
    net = ModuleNetwork(Residual(3, 2))
    theta, x = started(net, (2,)), draw(2, 5, 3)
    v, h = draw(*theta.shape, seed=1), 1e-6
    y, along = jvp(lambda theta: net(theta, x), (theta,), (v,))
    torch.testing.assert_close(along, (net(theta + h * v, x) - net(theta - h * v, x)) / (2.0 * h), rtol=1e-6, atol=1e-6)
    g = draw(*y.shape, seed=2)
    close((g * along).sum(), (v * vjp(lambda theta: net(theta, x), theta)[1](g)[0]).sum())


@pytest.mark.parametrize("rest", [(5,), (5, 4)])
def test_a_module_is_a_critic(rest):
    q = QNetwork(ModuleNetwork(Residual(3 + 2, 1)))
    theta, obs, action = q.init(2, seeds(0, 1)), draw(2, 5, 3), draw(2, *rest, 2, seed=1)
    value, slope = q.slope(theta, obs, action)
    x = torch.cat([obs.reshape(2, 5, *[1] * (len(rest) - 1), 3).expand(2, *rest, 3), leaf(action)], -1)
    alone = [torch.stack([filled(Residual(5, 1), theta[s, e])(x[s])[..., 0] for e in range(2)]).amin(0) for s in range(2)]
    expected = torch.stack(alone)
    close(q(theta, obs, action).amin(1), expected)
    close(value, expected.detach())
    central = [(q.least(theta, obs, action + h) - q.least(theta, obs, action - h)) / 2e-6 for h in 1e-6 * torch.eye(2)]
    torch.testing.assert_close(slope, torch.stack(central, -1), rtol=1e-6, atol=1e-7)


def test_sac_trains_a_module_as_it_trains_its_own_network():
    """The module is SAC's own critic in torch's layout; both are started alike and stay alike."""
    cfg = sac.Config(hidden=(6,), batch=4, lr=1e-2)
    own = sac.init(cfg, 3, 2, seeds(0, 1), torch.device("cpu"))
    nets = sac.networks(cfg, 3, 2)
    module = nn.Sequential(nn.Linear(5, 6), nn.ReLU(), nn.Linear(6, 1))
    theirs = sac.init(cfg, 3, 2, seeds(0, 1), torch.device("cpu"), nets=nets._replace(q=QNetwork(ModuleNetwork(module))))

    def turned(theta):
        layers = own.nets.q.net.layers(theta)
        return torch.cat([part.mT.flatten(-2) if k % 2 == 0 else part.flatten(-2) for layer in layers for k, part in enumerate(layer)], -1)

    theirs.policy.theta.copy_(own.policy.theta), theirs.q.theta.copy_(turned(own.q.theta)), theirs.q_target.copy_(turned(own.q_target))
    for k in range(3):
        parts = [draw(2, 4, *d, seed=10 * k + i) for i, d in enumerate([(3,), (2,), (), (), (3,)])]
        batch, noise = Batch(*parts), draw(2, 8, 2, seed=10 * k + 9)
        sac.update(cfg, own, batch, noise), sac.update(cfg, theirs, batch, noise)
    torch.testing.assert_close(theirs.policy.theta, own.policy.theta, rtol=1e-8, atol=1e-10)
    torch.testing.assert_close(theirs.q.theta, turned(own.q.theta), rtol=1e-8, atol=1e-10)
    torch.testing.assert_close(theirs.q_target, turned(own.q_target), rtol=1e-8, atol=1e-10)


def test_sac_trains_a_residual_module():
    """Every parameter of a residual critic moves, and none but through its own seed's minibatch."""
    cfg = sac.Config(hidden=(6,), batch=4, lr=1e-2)
    q = QNetwork(ModuleNetwork(Residual(5, 1)))

    def trained(*numbers):
        state = sac.init(cfg, 3, 2, seeds(*numbers), torch.device("cpu"), nets=sac.networks(cfg, 3, 2)._replace(q=q))
        before = state.q.theta.clone()
        for k in range(2):
            parts = [
                torch.cat([draw(1, 4, *d, seed=100 * s + 10 * k + i) for s in numbers]) for i, d in enumerate([(3,), (2,), (), (), (3,)])
            ]
            noise = torch.cat([draw(1, 8, 2, seed=100 * s + 10 * k + 9) for s in numbers])
            sac.update(cfg, state, Batch(*parts), noise)
        return state, before

    (both, before), (alone, _) = trained(0, 1), trained(1)
    assert (both.q.theta != before).all()
    for name in ("policy", "q"):
        torch.testing.assert_close(getattr(both, name).theta[1:], getattr(alone, name).theta, rtol=1e-9, atol=1e-11)
    torch.testing.assert_close(both.q_target[1:], alone.q_target, rtol=1e-9, atol=1e-11)


@pytest.mark.parametrize("activation", ["tanh", "relu", "elu"])
@pytest.mark.parametrize("stack", [(5,), (2, 5)])
def test_networks_side_by_side_in_memory_are_the_same_networks(stack, activation):
    net, x = MLP((3, 4, 2), activation), torch.randn(*stack, 1, 3, generator=torch.Generator().manual_seed(9), dtype=torch.float64)
    theta = net.init(stack, [torch.Generator().manual_seed(k) for k in range(stack[0])]).double()
    laid = theta.mT.contiguous().mT
    assert side_by_side(laid)
    assert not side_by_side(theta)
    torch.testing.assert_close(net(laid, x), net(theta, x))
    torch.testing.assert_close(net(laid, x[..., :1, :, :]), net(theta, x[..., :1, :, :]))  # one input for all
    for rows in (x.expand(*stack, 7, 3), x[..., None, :].expand(*stack, 1, 1, 3)):
        torch.testing.assert_close(net(laid, rows), net(theta, rows))
    layered = MLP((3, 4, 2), "layernorm")
    theta = layered.init(stack, [torch.Generator().manual_seed(k) for k in range(stack[0])]).double()
    torch.testing.assert_close(layered(theta.mT.contiguous().mT, x), layered(theta, x))
