"""Fitting against the protocol by hand, and what a long fit must not do."""

import json
import math
from dataclasses import replace
from functools import partial
from importlib import import_module

import pytest
import torch

from tests.policies.plain import close, draw, leaf
from wgf import svgd, transport
from wgf.bnn import Settings, fit, mixture
from wgf.bnn.fit import Course, dev_likelihood, dev_size, room
from wgf.bnn.flows import RMSProp, minibatches, thinned, thinning
from wgf.snapshot import joined, parted

QUICK = Settings(flow="svgd", hidden=(6,), particles=4, iterations=30, batch=16, lr=1e-2, anneal=False, keep="last")


def task(splits=1, n=60, d=3, seed=0):
    """Data sets with inputs on odd scales, one of them constant, and targets far from zero; float64."""
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(splits, n, d, generator=generator, dtype=torch.float64)
    y = (300.0 + 20.0 * torch.sin(2.0 * x[..., 0]) + 10.0 * x[..., 1])[..., None]
    x = x * torch.tensor([1.0, 100.0, 0.0], dtype=torch.float64)[:d] + 5.0
    return x, y


@pytest.mark.parametrize(("n", "size"), [(2, 1), (9, 1), (15, 2), (25, 2), (455, 46), (4999, 500), (41157, 500)])
def test_the_dev_part_is_a_tenth_and_at_most_500_rows(n, size):
    assert dev_size(n) == size  # halves go to the even number, as in the published code


def test_minibatches_go_round_the_data_in_order():
    data = torch.arange(7)
    rows = [data[r].tolist() for r, _ in zip(minibatches(7, 3), range(5), strict=False)]
    assert rows == [[0, 1, 2], [3, 4, 5], [6, 0, 1], [2, 3, 4], [5, 6, 0]]
    assert [data[r].tolist() for r, _ in zip(minibatches(7, 100), range(2), strict=False)] == [list(range(7))] * 2


def test_rmsprop_begins_with_the_first_square_and_then_forgets():
    optimiser, a, b = RMSProp(), torch.tensor([2.0, -3.0]), torch.tensor([4.0, 1.0])
    torch.testing.assert_close(optimiser.root(a), 1e-6 + a.abs())
    torch.testing.assert_close(optimiser.root(b), 1e-6 + (0.9 * a.square() + 0.1 * b.square()).sqrt())


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("anneal", [False, True])
def test_a_fit_is_the_protocol_by_hand(anneal, weighted):
    x, y = task()
    n = 54  # 60 less a tenth
    weights = torch.ones(1, 60, dtype=torch.float64)
    weights[:, :n] = 0.25 + torch.arange(n) % 3 if weighted else 1.0
    found = fit(replace(QUICK, anneal=anneal), x, y, [5], weights=weights if weighted else None)
    w = (weights / weights[:, :n].sum())[:, :n, None]
    mean, std = (w * x[:, :n]).sum(1, keepdim=True), x[:, :n].std(1, correction=0, keepdim=True)
    std = torch.where(std > 0.0, (w * (x[:, :n] - mean).square()).sum(1, keepdim=True).sqrt(), 1.0)
    y_mean = (w * y[:, :n]).sum()
    y_std = (w * (y[:, :n] - y_mean).square()).sum().sqrt()
    u, v = ((x - mean) / std).float(), ((y - y_mean) / y_std).float()
    model = QUICK.model(3)
    p = model.init(u[:, :n], v[:, :n], [torch.Generator().manual_seed(5)])
    history = None
    for t in range(30):
        rows = torch.arange(16 * t, 16 * t + 16) % n
        phi = svgd.velocity(p, model.score(p, u[:, rows], v[:, rows], weights[:, rows].float(), n))
        history = phi.square() if history is None else 0.9 * history + 0.1 * phi.square()
        lr = 1e-2 * (30 - t) / 30 if anneal else 1e-2
        p = p + lr * phi / (1e-6 + history.sqrt())
    torch.testing.assert_close(found.particles, p, rtol=1e-4, atol=1e-5)  # float32, thirty steps
    raw = found.predict(x)
    torch.testing.assert_close(raw, model.predict(found.particles, u).double() * y_std + y_mean)
    gamma = 1.0 / (raw[:, :, n:] - y[:, None, n:]).square().mean(-2)
    torch.testing.assert_close(found.log_gamma, gamma.log())
    assert found.rmse(x, y).item() == pytest.approx((raw.mean(1) - y).square().mean().sqrt().item(), rel=1e-12)
    density = torch.distributions.Normal(raw[..., 0], gamma**-0.5).log_prob(y[:, None, :, 0])
    expected = (torch.logsumexp(density, 1) - math.log(4)).mean().item()
    assert found.log_likelihood(x, y).item() == pytest.approx(expected, rel=1e-6)  # float32 in batches of other sizes


@pytest.mark.parametrize("flow", ["wgf", "svgd", "smi", "blob", "langevin", "ensemble", "dropout"])
def test_a_data_set_of_a_stack_is_fitted_as_it_is_alone(flow):
    x, y = task(splits=3)
    settings = replace(QUICK, flow=flow, w2="debiased")
    stack, alone = fit(settings, x, y, [3, 4, 5]), fit(settings, x[1:2], y[1:2], [4])
    torch.testing.assert_close(stack.predict(x)[1], alone.predict(x[1:2])[0], rtol=1e-3, atol=1e-2)  # float32, targets of 300


def two_steps(settings, x, y):
    """Particles after each of two iterations."""
    return steps(settings, x, y, 2)


def steps(settings, x, y, number):
    """Particles after each iteration."""
    seen = []
    fit(replace(settings, iterations=number), x, y, [0], lambda step, now: seen.append(now.particles))
    return seen


def test_the_flow_wgf_adds_the_w2_velocity_to_the_last_jko_iterate():
    x, y = task()
    settings = replace(QUICK, flow="wgf", w2="exact", w2_scale=3.0, inner_steps=2)
    first, second = two_steps(settings, x, y)
    model, n, ones = settings.model(3), 54, torch.ones(1, 16)
    u = ((x - x[:, :n].mean(1, keepdim=True)) / x[:, :n].std(1, correction=0, keepdim=True).clamp_min(1e-9)).float()
    u[..., 2] = 0.0
    v = ((y - y[:, :n].mean()) / y[:, :n].std(correction=0)).float()
    start = model.init(u[:, :n], v[:, :n], [torch.Generator().manual_seed(0)])
    phi = svgd.velocity(start, model.score(start, u[:, :16], v[:, :16], ones, n))  # the W2 term is zero at the start
    torch.testing.assert_close(first, start + 1e-2 * phi / (1e-6 + phi.abs()), rtol=1e-4, atol=1e-6)
    with_w2 = svgd.velocity(first, model.score(first, u[:, 16:32], v[:, 16:32], ones, n)) + 3.0 * transport.exact(first, start)
    scale = 1.0 / (1e-6 + (0.9 * phi.square() + 0.1 * with_w2.square()).sqrt())
    torch.testing.assert_close(second, first + 1e-2 * scale * with_w2, rtol=1e-4, atol=1e-6)
    each_step = two_steps(replace(settings, inner_steps=1), x, y)[1]
    plain = two_steps(replace(settings, flow="svgd"), x, y)[1]
    assert torch.equal(each_step, plain)  # the last iterate is where the particles are: a map to it is nothing


def test_the_previous_jko_iterate_is_that_of_the_first_of_three_inner_steps(monkeypatch):
    seen = []

    def watch(particles, before):
        seen.append((particles.clone(), before.clone()))
        return transport.exact(particles, before)

    monkeypatch.setitem(transport.VELOCITIES, "exact", watch)
    steps(replace(QUICK, flow="wgf", w2="exact", inner_steps=3), *task(), 7)
    for k, (_, before) in enumerate(seen):
        assert torch.equal(before, seen[k - k % 3][0])
    assert not torch.equal(seen[0][0], seen[3][0])


@pytest.mark.parametrize("w2", ["exact", "eq9_mean"])
def test_the_flow_wgf_without_its_w2_term_is_svgd_to_the_last_digit(w2):
    x, y = task()
    both = [fit(replace(QUICK, flow=flow, w2=w2, w2_scale=0.0), x, y, [0]).particles for flow in ("wgf", "svgd")]
    assert torch.equal(*both)


def test_a_fit_of_smi_moves_components_and_shows_networks_drawn_from_them():
    """Three steps by hand: components around the start's networks, draws of each step, the attraction's sum over components."""
    x, y = task()
    settings = replace(QUICK, flow="smi", draws=3)
    seen = steps(settings, x, y, 3)
    assert seen[-1].shape == (1, 12, 33)
    model, n = replace(settings, draws=1).model(3), 54
    u = ((x - x[:, :n].mean(1, keepdim=True)) / x[:, :n].std(1, correction=0, keepdim=True).clamp_min(1e-9)).float()
    u[..., 2] = 0.0
    v = ((y - y[:, :n].mean()) / y[:, :n].std(correction=0)).float()
    first = torch.Generator().manual_seed(0)
    means = model.init(u[:, :n], v[:, :n], [first])
    psi, history = torch.cat([means, torch.full_like(means, math.log(0.01))], -1), None
    noise = torch.Generator().manual_seed(int(torch.randint(2**62, (), generator=first)))
    shown = torch.randn(4, 3, 33, generator=torch.Generator().manual_seed(0))
    for t in range(3):
        batch = (part[:, 16 * t : 16 * t + 16] for part in (u, v, torch.ones(1, n)))
        joint, xi = (
            partial(model.log_joint, **dict(zip(("x", "y", "weights"), batch, strict=True)), n=n),
            torch.randn(4, 3, 33, generator=noise),
        )
        phi = svgd.velocity(psi, 4.0 * mixture.slope(joint, psi, xi[None]))
        history = phi.square() if history is None else 0.9 * history + 0.1 * phi.square()
        psi = psi + 1e-2 * phi / (1e-6 + history.sqrt())
        drawn = psi[0, :, None, :33] + psi[0, :, None, 33:].exp() * shown
        torch.testing.assert_close(seen[t][0], drawn.flatten(0, 1), rtol=1e-4, atol=1e-5)


def test_langevin_is_the_ensemble_with_noise_of_variance_two_lr_times_the_scale():
    x, y = task()
    settings = replace(QUICK, particles=200, iterations=1, flow="ensemble")
    still, moved = fit(settings, x, y, [0]), fit(replace(settings, flow="langevin"), x, y, [0])
    start = fit(replace(settings, lr=1e-30), x, y, [0]).particles
    n = 54
    u, v = ((t - t[:, :n].mean(1, keepdim=True)) / t[:, :n].std(1, correction=0, keepdim=True).clamp_min(1e-9) for t in (x, y))
    u[..., 2] = 0.0
    score = settings.model(3).score(start, u[:, :16].float(), v[:, :16].float(), torch.ones(1, 16), n)
    noise = (moved.particles - still.particles) * (1e-6 + score.abs()).sqrt() / math.sqrt(2.0 * 1e-2)
    assert noise.mean().item() == pytest.approx(0.0, abs=4.0 / math.sqrt(noise.numel()))
    assert noise.std().item() == pytest.approx(1.0, abs=4.0 / math.sqrt(2 * noise.numel()))
    torch.testing.assert_close(still.particles, start + 1e-2 * score / (1e-6 + score.abs()), rtol=1e-4, atol=1e-6)


def test_dropout_leaves_units_out_and_counts_the_others_more():
    rate = 0.25
    phi = thinning(rate, [torch.Generator().manual_seed(k) for k in (0, 1)])
    h = leaf(draw(2, 5000, 4, seed=9))
    out = phi(h)
    kept = out > 0.0
    torch.testing.assert_close(out[kept], h[kept] / (1.0 - rate))
    assert kept.double().mean().item() == pytest.approx(0.5 * (1.0 - rate), abs=4.0 * 0.5 / math.sqrt(kept.numel()))
    assert not torch.equal(kept[0] | (h[0] <= 0), kept[1] | (h[1] <= 0))
    (slope,) = torch.autograd.grad(out.sum(), h)
    torch.testing.assert_close(slope, kept.to(out) / (1.0 - rate))


def test_draws_of_a_network_with_dropout_lack_whole_units():
    settings = replace(QUICK, hidden=(40, 30), particles=50, dropout=0.25)
    net = settings.model(3).net
    particle = draw(1, 1, net.weights + 2).float()
    found = thinned(particle, net, 50, 0.25, [torch.Generator().manual_seed(0)])
    layers = list(zip(net.layers(found[..., :-2]), net.layers(particle[..., :-2]), strict=True))
    assert torch.equal(layers[0][0], layers[0][1].expand(1, 50, -1, -1))
    for many, one in layers[1:]:
        (w, b), (w1, b1) = ((layer[..., :-1, :], layer[..., -1:, :]) for layer in (many, one))
        assert torch.equal(b, b1.expand_as(b))
        left_out = (w == 0.0).all(-1)
        torch.testing.assert_close(w, w1.expand_as(w) / 0.75 * ~left_out[..., None])
        assert left_out.double().mean().item() == pytest.approx(0.25, abs=4.0 * math.sqrt(0.25 * 0.75 / left_out.numel()))
    assert torch.equal(found[..., -2:], particle[..., -2:].expand(1, 50, 2))
    assert len(found[0].unique(dim=0)) == 50


def test_dropout_trains_one_network_and_shows_as_many_draws_as_particles():
    x, y = task()
    found = fit(replace(QUICK, flow="dropout", dropout=0.5, hidden=(40,), iterations=300), x, y, [0])
    assert found.predict(x).shape == (1, 4, 60, 1)
    assert found.predict(x).std(1).mean() > 1.0  # of targets whose deviation is 17
    same = fit(replace(QUICK, flow="dropout", dropout=0.0), x, y, [0])
    assert same.predict(x).std(1).max() == 0.0
    alone = fit(replace(QUICK, flow="ensemble", particles=1), x, y, [0])
    torch.testing.assert_close(same.predict(x)[:, :1], alone.predict(x), rtol=1e-4, atol=1e-3)


@pytest.mark.parametrize("centred", [False, True])
def test_the_spread_of_draws_from_the_prior_is_one_and_of_one_network_none(centred):
    x, y = task(splits=2)
    found = fit(replace(QUICK, centred=centred, particles=400, iterations=1), x, y, [0, 1])
    z, log_lam = draw(2, 400, found.model.net.weights), draw(2, 400, 1, seed=1)
    scale = torch.tensor([1.0, 3.0])[:, None, None]
    held = scale * (z * torch.exp(-0.5 * log_lam) if centred else z) + 7.0 * (not centred)
    now = found._replace(particles=torch.cat([held, log_lam, log_lam], -1))
    torch.testing.assert_close(now.spread(), scale[:, 0, 0].to(z), rtol=4.0 / math.sqrt(2 * z[0].numel()), atol=0.0)
    same = found._replace(particles=now.particles[:, :1].expand(2, 400, -1))
    assert same.spread().abs().max() < 1e-6


def test_a_fit_that_diverges_says_so():
    x, y = task()
    with pytest.raises(FloatingPointError, match=r"the particles are not finite after \d+ iterations; lower lr, which is 1e\+30"):
        fit(replace(QUICK, lr=1e30), x, y, [0])


def test_of_several_rates_that_diverge_the_largest_is_named():
    x, y = task(3)
    with pytest.raises(FloatingPointError, match=r"lower lr, which is 1e\+30"):
        fit(QUICK, x, y, [0, 1, 2], rates=(1e25, 1e-2, 1e30))


def test_a_dev_part_without_an_error_has_the_least_variance_in_the_targets_unit():
    """The dev part is not trained on: with a network's own predictions for targets, the same fit meets them exactly."""
    x, y = task()
    one = replace(QUICK, particles=1)
    y[:, -6:] = fit(one, x, y, [0]).predict(x[:, -6:])[:, 0]
    found = fit(one, x, y, [0])
    assert torch.equal(found.predict(x[:, -6:])[:, 0], y[:, -6:])
    close(found.log_gamma.exp(), 1.0 / (1e-12 * y[:, :-6].var(1, correction=0)[:, None]))


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"flow": "svgd2"}, r"flow is 'svgd2'; choose from wgf, svgd, smi, blob, langevin, ensemble, dropout"),
        ({"w2": "eq9"}, r"w2 is 'eq9'; choose from common_noise, eq9_sum"),
        ({"particles": 0}, r"particles is 0; allowed is a whole number of at least 1"),
        ({"hidden": (5, 0)}, r"hidden\[1\] is 0; allowed is a whole number"),
        ({"iterations": 2.5}, r"iterations is 2.5; allowed is a whole number"),
        ({"draws": 0}, r"draws is 0; allowed is a whole number of at least 1"),
        ({"lr": -1.0}, r"lr is -1.0; allowed is a positive, finite number"),
        ({"prior_rate": math.nan}, r"prior_rate is nan; allowed is a positive, finite number"),
        ({"dropout": 1.0}, r"dropout is 1.0; allowed is a number from 0 to below 1"),
        ({"w2_scale": -0.1}, r"w2_scale is -0.1; allowed"),
    ],
)
def test_settings_that_cannot_be_meant_are_refused(change, says):
    with pytest.raises(ValueError, match=says):
        replace(QUICK, **change)


def dev_after(iterations, **changes):
    """The dev part's log-likelihood after a fit of that length to 150 noisy rows."""
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(1, 150, 8, generator=generator, dtype=torch.float64)
    y = torch.sin(x[..., 0]) + 0.5 * x[..., 1] * x[..., 2] + 0.3 * torch.randn(1, 150, generator=generator, dtype=torch.float64)
    y, settings = y[..., None], Settings(flow="svgd", hidden=(20,), particles=8, batch=50, lr=5e-3, iterations=iterations)
    return fit(replace(settings, **changes), x, y, [0]).log_likelihood(x[:, -15:], y[:, -15:]).item()


@pytest.mark.parametrize("flow", ["wgf", "svgd"])
def test_held_as_weights_particles_slide_towards_none_at_all_and_as_z_they_stay(flow):
    """The dev part's log-likelihood after 500 and after 2,500 steps: held as weights a third of a nat and more is gone."""
    centred = [dev_after(n, flow=flow, centred=True, keep="last", anneal=False) for n in (500, 2500)]
    as_z = [dev_after(n, flow=flow, keep="last") for n in (500, 2500)]
    assert centred[1] < centred[0] - 0.3
    assert as_z[1] > as_z[0] - 0.2


def test_what_is_kept_is_the_best_look_of_each_data_set():
    x, y = task(splits=3)
    settings, seen = replace(QUICK, iterations=200, lr=0.1, keep="best"), []
    found = fit(settings, x, y, [0, 1, 2], lambda step, now: seen.append((step, now)))
    assert [step for step, _ in seen] == list(range(10, 201, 10))
    dev = torch.stack([now.log_likelihood(x[:, 54:], y[:, 54:]) for _, now in seen])
    best = dev.argmax(0)
    assert len(best.unique()) > 1
    for s, k in enumerate(best.tolist()):
        assert torch.equal(found.particles[s], seen[k][1].particles[s])
        assert torch.equal(found.log_gamma[s], seen[k][1].log_gamma[s])
    assert torch.equal(fit(replace(settings, keep="last"), x, y, [0, 1, 2]).particles, seen[-1][1].particles)


def test_every_data_set_of_a_stack_has_its_own_step_size():
    x, y = (t.expand(3, *t.shape[1:]) for t in task())
    rates = [1e-2, 3e-3, 1e-3]
    together = fit(QUICK, x, y, [0, 0, 0], rates=rates).particles
    for s, lr in enumerate(rates):
        alone = fit(replace(QUICK, lr=lr), x[:1], y[:1], [0]).particles
        torch.testing.assert_close(together[s], alone[0], rtol=1e-4, atol=1e-5)  # float32, thirty steps
    with pytest.raises(FloatingPointError, match=r"lower lr, which is 1e\+30"):
        fit(QUICK, x, y, [0, 0, 0], rates=[1e-3, 1e30, 1e-3])


def test_the_dev_part_counts_by_its_weights():
    x, y = task()
    weights = torch.ones(1, 60, dtype=torch.float64)
    weights[:, 54:] = torch.tensor([1.0, 2.0, 0.0, 3.0, 1.0, 1.0])
    found = fit(QUICK, x, y, [5], weights=weights)
    plain = fit(QUICK, x, y, [5])
    torch.testing.assert_close(found.particles, plain.particles)
    error = (found.predict(x)[:, :, 54:] - y[:, None, 54:]).square()[..., 0]
    torch.testing.assert_close(found.log_gamma[..., 0], -((error * weights[:, None, 54:]).sum(-1) / 8.0).log())
    expected = (found.log_densities(x, y)[:, 54:] * weights[:, 54:]).sum(-1) / 8.0
    torch.testing.assert_close(dev_likelihood(found, x, y, weights), expected)


def test_a_dev_part_without_weight_is_refused():
    x, y = task()
    weights = torch.ones(2, 60, dtype=torch.float64)
    weights[1, 54:] = 0.0
    with pytest.raises(ValueError, match=r"weights has none above 0 among the last 6 rows, the dev part; put other rows there$"):
        fit(QUICK, x.expand(2, -1, -1), y.expand(2, -1, -1), [5, 6], weights=weights)


def test_outputs_share_a_network_and_have_their_own_units_and_noise():
    x, y = task()
    both = torch.cat([y, 1e-3 * y.square() + 7.0], -1)
    found = fit(replace(QUICK, iterations=200), x, both, [5])
    assert found.predict(x).shape == (1, 4, 60, 2)
    for k in range(2):
        torch.testing.assert_close(found.y_mean[0, 0, k], both[0, :54, k].mean())
        torch.testing.assert_close(found.y_std[0, 0, k], both[0, :54, k].std(correction=0))
    gamma = 1.0 / (found.predict(x)[:, :, 54:] - both[:, None, 54:]).square().mean(-2)
    torch.testing.assert_close(found.log_gamma, gamma.log())
    error = (found.predict(x).mean(1) - both).square().mean((1, 2)).sqrt()
    torch.testing.assert_close(found.rmse(x, both), error)


def test_a_constant_column_counts_in_its_own_unit():
    x, y = task()
    found = fit(QUICK, x, y, [0])
    assert found.x_std[0, 0, 2] == 1.0
    assert (found.x_std[0, 0, :2] != 1.0).all()


@pytest.mark.parametrize(
    ("flow", "rows", "bytes_", "largest"),
    [("svgd", 30, 16832, "particles is 4"), ("ensemble", 30, 16576, "particles is 4"), ("svgd", 10, 12992, "particles is 4"),
     ("smi", 30, 62656, "draws is 3")],
)  # fmt: skip
def test_the_memory_that_a_fit_takes_is_counted_by_its_formula(flow, rows, bytes_, largest, monkeypatch):
    """2 sets of 4 networks, 4 bytes a number: 6 x 33 of a particle, 2 x 16 rows (or all 10) x (3 + 6 + 1) units, 2 x 4 of a kernel.

    With smi 6 x 66 of each of 4 components, and 12 networks.
    """
    x, y, fitting = *task(2, rows), import_module("wgf.bnn.fit")  # whose name in the package is the function's
    monkeypatch.setattr(fitting, "free_memory", lambda device: bytes_)
    room(replace(QUICK, flow=flow, draws=3), x, y)
    monkeypatch.setattr(fitting, "free_memory", lambda device: bytes_ - 1)
    with pytest.raises(ValueError, match=f"{largest}: a fit takes at least"):
        room(replace(QUICK, flow=flow, draws=3), x, y)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"particles": 10**8}, "particles is 100000000: a fit takes at least "),
        ({"hidden": (20000, 20000), "particles": 100}, "hidden is 20000,20000: a fit takes at least "),
        ({"hidden": (10**12,)}, "hidden is 1000000000000: a fit takes at least "),
        ({"flow": "smi", "draws": 10**9}, "draws is 1000000000: a fit takes at least "),
        ({"draws": 10**9, "particles": 10**8}, "particles is 100000000: a fit takes at least "),
        ({"flow": "ensemble", "particles": 10**9}, "particles is 1000000000: a fit takes at least "),
    ],
)
def test_a_fit_that_does_not_fit_the_memory_is_refused_before_it_takes_any(change, words):
    with pytest.raises(ValueError, match=words):
        fit(Settings(**change), torch.zeros(1, 20, 3), torch.zeros(1, 20, 1), [0])


def test_a_batch_larger_than_the_data_takes_no_more_than_they():
    room(Settings(batch=10**12), torch.zeros(1, 20, 3), torch.zeros(1, 20, 1))


class Stop(Exception):
    """What somebody raises who has a fit put down."""


def gone(settings, *, until=math.inf, before=None):
    """Runs a fit from a snapshot to its end, or puts it down after a step; returns it, the looks at it, and what it found."""
    x, y = task(2)
    course, seen = Course(settings, x, y, [0, 1]), []

    def tick(step):
        if step >= until:
            raise Stop

    if before is not None:
        course.restore(before)
    try:
        return course, seen, course.run(lambda step, now: seen.append((step, now.particles, now.log_gamma)), tick)
    except Stop:
        return course, seen, None


def on_a_disk(snapshot):
    """A snapshot as it comes back from a file."""
    tensors, facts = parted(snapshot)
    return joined({name: t.clone() for name, t in tensors.items()}, json.loads(json.dumps(facts)))


LONG = replace(QUICK, iterations=31, inner_steps=4, lr=0.2, keep="best")


@pytest.mark.parametrize("flow", ["wgf", "svgd", "smi", "langevin", "dropout"])
def test_a_fit_that_is_put_down_twice_is_the_one_that_is_not_bit_by_bit(flow):
    settings = replace(LONG, flow=flow, w2="exact", dropout=0.3, draws=3)
    _, calm, found = gone(settings)
    assert not torch.equal(found.particles, calm[-1][1])  # the best look is not the last
    for first, second in ((1, 2), (6, 27), (29, 31)):
        one, early, _ = gone(settings, until=first)
        one, middle, _ = gone(settings, until=second, before=on_a_disk(one.snapshot()))
        assert one.step == second
        one, late, again = gone(settings, before=on_a_disk(one.snapshot()))
        seen = [*early, *middle, *late]
        assert [step for step, *_ in seen] == [step for step, *_ in calm]
        assert all(torch.equal(a, b) for one, other in zip(seen, calm, strict=True) for a, b in zip(one[1:], other[1:], strict=True))
        assert torch.equal(again.particles, found.particles)
        assert torch.equal(again.log_gamma, found.log_gamma)
        assert torch.equal(again.predict(task(2)[0]), found.predict(task(2)[0]))


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"steps": None}, "it lacks the steps or the best look of a fit"),
        ({"best": []}, "it lacks the steps or the best look of a fit"),
        ({"best": {}}, r"the best look's particles is None in the checkpoint; it must be torch.float32 of shape \(2, 4, 33\)"),
        ({"step": 0}, "step is 0; it must be from 1 to 31"),
        ({"step": 32}, "step is 32; it must be from 1 to 31"),
        ({"step": "5"}, "step is '5'; it must be from 1 to 31"),
        ({"particles": torch.zeros(2, 4, 34)}, r"particles is torch.float32 of shape \(2, 4, 34\) in the checkpoint"),
        ({"history": torch.zeros(2, 4, 33).double()}, "history is torch.float64 of shape"),
        ({"before": None}, "before is None in the checkpoint"),
        ({"noise": torch.zeros(2, 3)}, "a generator's state is torch.float32 of shape"),
    ],
)
def test_what_is_no_snapshot_of_a_fit_is_refused(change, says):
    right = gone(LONG, until=9)[0].snapshot()
    part = right if change.keys() <= right.keys() else right["steps"]
    part |= change
    with pytest.raises(ValueError, match=says):
        gone(LONG, before=right)
