import math

import ot
import pytest
import torch

from wgf import kernels, trusted
from wgf import sinkhorn as module
from wgf.sinkhorn import sinkhorn


def close(a, b, tol=1e-12):
    torch.testing.assert_close(a, b, rtol=tol, atol=tol)


def costs(x, y):
    return (x[..., :, None, :] - y[..., None, :, :]).square().sum(-1)


def numpy(*tensors):
    return [t.cpu().numpy() for t in tensors]


def test_potentials_give_the_plan_and_the_plan_its_marginals(draw):
    x, y = draw(6, 3), draw(8, 3, seed=1)
    plan = sinkhorn(x, y, 0.5, tol=1e-12)
    p = torch.exp((plan.f[:, None] + plan.g - costs(x, y)) / 0.5) / 48.0
    close(plan.log_plan.exp(), p)
    close(p.sum(1), torch.full_like(x[:, 0], 1 / 6))
    close(p.sum(0), torch.full_like(y[:, 0], 1 / 8))


def test_the_value_is_the_plans_cost_and_divergence_from_the_product(draw):
    x, y = draw(6, 3), draw(8, 3, seed=1)
    a, b = draw(6, seed=2).exp(), draw(8, seed=3).exp()
    plan = sinkhorn(x, y, 0.5, a=a, b=b, tol=1e-12)
    p, q = plan.log_plan.exp(), (a / a.sum())[:, None] * (b / b.sum())
    close(plan.value, (p * costs(x, y)).sum() + 0.5 * (p * (p / q).log()).sum(), 1e-10)


def test_the_barycentre_is_the_mean_of_the_plans_rows(draw):
    x, y, b = draw(6, 3) + 100.0, draw(8, 3, seed=1) + 101.0, draw(8, seed=2).exp()
    plan = sinkhorn(x, y, 0.5, b=b, tol=1e-12)
    p = plan.log_plan.exp()
    close(plan.barycentre, (p @ y) / p.sum(-1, keepdim=True), 1e-10)


def test_a_weight_of_zero_is_a_point_left_out(draw):
    x, y = draw(6, 3), draw(8, 3, seed=1)
    a, b = draw(6, seed=2).exp(), draw(8, seed=3).exp()
    a[1] = b[0] = b[5] = 0.0
    plan = sinkhorn(x, y, 0.5, a=a, b=b, tol=1e-12)
    kept = sinkhorn(x[a > 0], y[b > 0], 0.5, a=a[a > 0], b=b[b > 0], tol=1e-12)
    close(plan.log_plan.exp()[a > 0][:, b > 0], kept.log_plan.exp())
    assert (plan.log_plan.exp()[:, b == 0] == 0.0).all()
    close(plan.barycentre[a > 0], kept.barycentre)
    close(plan.value, kept.value)
    assert plan.f.isfinite().all()
    assert (plan.g[b == 0] == 0.0).all()


def test_weights_need_not_sum_to_one(draw):
    x, y, a, b = draw(4, 2), draw(5, 2, seed=1), draw(4, seed=2).exp(), draw(5, seed=3).exp()
    close(sinkhorn(x, y, 1.0, a=7.0 * a, b=0.1 * b).log_plan, sinkhorn(x, y, 1.0, a=a, b=b).log_plan)
    close(sinkhorn(x, y, 1.0, a=a.new_full((4,), 3.0)).log_plan, sinkhorn(x, y, 1.0).log_plan)


def test_a_large_eps_gives_the_product_of_the_weights(draw):
    x, y = draw(6, 3), draw(8, 3, seed=1)
    plan = sinkhorn(x, y, 1e9)
    close(plan.log_plan.exp(), torch.full_like(costs(x, y), 1 / 48), 1e-7)  # 1 + c / eps
    close(plan.barycentre, y.mean(0).expand(6, 3), 1e-7)
    close(plan.value, costs(x, y).mean(), 1e-6)


def test_a_small_eps_gives_the_exact_cost_from_above(draw):
    """0 <= OT_eps - OT_0 <= eps log min(M, N) for uniform weights: the entropy of a plan against the product is at most that."""
    x, y = draw(12, 3), draw(12, 3, seed=1)
    exact = ot.emd2(*numpy(torch.full_like(x[:, 0], 1 / 12), torch.full_like(x[:, 0], 1 / 12), costs(x, y)))
    for eps in (1.0, 0.1, 0.01):
        assert 0.0 <= float(sinkhorn(x, y, eps, tol=1e-6, max_iters=5000).value) - exact <= eps * math.log(12)


def test_one_point_a_side_has_the_whole_mass(draw):
    x, y = draw(1, 3), draw(5, 3, seed=1)
    for eps in (1e-3, 1.0):
        for p, q in ((x, y), (y, x), (x, y[:1])):
            plan = sinkhorn(p, q, eps)
            close(plan.log_plan.exp(), torch.full_like(costs(p, q), 1.0 / costs(p, q).numel()), 1e-3 if len(q) > 1 else 1e-9)
            close(plan.value, costs(p, q).mean(), 1e-3)


def test_identical_clouds_have_a_symmetric_plan_and_equal_potentials(draw):
    x = draw(7, 2)
    plan = sinkhorn(x, x, 0.3, tol=1e-12)
    close(plan.log_plan.exp(), plan.log_plan.mT.exp(), 1e-11)
    close(plan.f - plan.f.mean(), plan.g - plan.g.mean(), 1e-6)  # a gap of 1e-12, magnified by the slowest mode
    same = sinkhorn(x[:1].expand(4, 2), x[:1].expand(3, 2), 0.3)
    close(same.log_plan.exp(), x.new_full((4, 3), 1 / 12))
    close(same.value, torch.zeros_like(same.value))


@pytest.mark.parametrize("max_iters", [1, 3, 25])
def test_the_gap_is_the_plans_own_and_converged_says_so(max_iters, draw):
    x, y = draw(20, 2), draw(15, 2, seed=1) + 1.0
    b = draw(15, seed=2).exp()
    plan = sinkhorn(x, y, 0.005, b=b, tol=1e-6, max_iters=max_iters)
    p = plan.log_plan.exp()
    close(p.sum(1), torch.full_like(x[:, 0], 1 / 20), 1e-10)
    close(plan.gap, (p.sum(0) - b / b.sum()).abs().sum(), 1e-9)
    assert plan.gap > 1e-6
    assert not plan.converged


@pytest.mark.parametrize("tol", [1e-2, 1e-4])
def test_a_solve_stops_within_its_tolerance_and_not_far_below_it(tol, draw):
    x, y = draw(30, 2), draw(30, 2, seed=1) + 1.0
    plan = sinkhorn(x, y, 0.05, tol=tol)
    assert plan.converged
    assert tol >= plan.gap > 1e-9
    assert sinkhorn(x, y, 0.05, tol=float(plan.gap)).converged


def test_the_gap_of_one_problem_does_not_converge_another(draw):
    x, y = draw(2, 30, 2), draw(2, 30, 2, seed=1)
    plan = sinkhorn(x, y, x.new_tensor([50.0, 0.001]), max_iters=40, tol=1e-6)
    assert plan.converged.tolist() == [True, False]


def test_momentum_needs_a_fraction_of_the_plain_iterations(draw):
    """Plain Sinkhorn from f = g = 0 at the asked eps, in its textbook form, is nowhere near after as many iterations."""
    x, y, eps = draw(30, 2), draw(30, 2, seed=1) + 1.0, 0.02
    plan = sinkhorn(x, y, eps, max_iters=300)
    assert plan.converged
    g = torch.zeros_like(y[:, 0])
    for _ in range(300):
        f = -eps * torch.logsumexp((g - costs(x, y)) / eps - math.log(30), 1)
        last, g = g, -eps * torch.logsumexp((f[:, None] - costs(x, y)) / eps - math.log(30), 0)
    assert torch.expm1((last - g) / eps).abs().mean() > 2.0 * plan.gap


@pytest.mark.parametrize(("iterations", "restarted"), [(47, True), (2, False)])
def test_the_iterates_are_those_of_accelerated_ascent_on_the_dual_with_restarts(iterations, restarted, draw):
    """In matrices: eps falls fourfold from the spread, then Nesterov's k / (k + 3), restarted where momentum leads against b - P^T 1.

    The spread is that about y's centre, which is far from the origin. After two iterations eps is still above what is asked for.
    """
    x, y, b, eps = draw(6, 2) + 3.0, draw(5, 2, seed=1) + 3.0, draw(5, seed=2).exp(), 0.05
    b = b / b.sum()
    c, centre = costs(x, y), y.mean(0)
    level = float(max((x - centre).norm(dim=1).max(), (y - centre).norm(dim=1).max())) ** 2
    g, last, k, restarts = torch.zeros_like(b), torch.zeros_like(b), 0, 0
    for _ in range(iterations):
        level = max(eps, level / 4.0)
        p = torch.softmax(b.log() + (g - c) / level, 1) / 6.0
        step = -level * torch.logsumexp(-torch.logsumexp(b.log() + (g - c) / level, 1, keepdim=True) - c / level, 0) + level * math.log(6.0)
        forward = float((b - p.sum(0)) @ (step - last)) > 0.0
        restarts += level == eps and not forward and k > 0
        k = k + 1 if forward and level == eps else 0
        g, last = step + k / (k + 3.0) * (step - last), step
    assert (restarts > 0) == restarted
    close(sinkhorn(x, y, eps, b=b, max_iters=iterations, tol=1e-300).g, g, 1e-9)


def test_a_stack_is_each_problem_by_itself_with_its_own_eps_and_weights(draw):
    x, y = draw(2, 3, 6, 2), draw(2, 3, 5, 2, seed=1)
    eps = draw(2, 3, seed=2).exp()
    a, b = draw(2, 3, 6, seed=3).exp(), draw(2, 3, 5, seed=4).exp()
    plan = sinkhorn(x, y, eps, a=a, b=b, tol=1e-13, max_iters=5000)
    for i in range(2):
        for j in range(3):
            alone = sinkhorn(x[i, j], y[i, j], float(eps[i, j]), a=a[i, j], b=b[i, j], tol=1e-13, max_iters=5000)
            close(plan.log_plan[i, j], alone.log_plan, 1e-9)
            close(plan.barycentre[i, j], alone.barycentre, 1e-9)
            close(plan.value[i, j], alone.value, 1e-9)


def test_a_problem_stops_by_itself_whatever_it_is_stacked_with(draw):
    x, y, eps = draw(6, 20, 2), draw(6, 15, 2, seed=1), draw(6).new_tensor([9.0, 1.0, 0.3, 0.1, 0.03, 0.01])
    x[2, 0, 0] = y[4, 3, 1] = math.nan
    with trusted():
        plan = sinkhorn(x, y, eps)
    assert plan.converged.tolist() == [True, True, False, True, False, True]
    for i in (0, 1, 3, 5):
        alone = sinkhorn(x[i], y[i], float(eps[i]))
        for stacked, own in ((plan.f[i], alone.f), (plan.g[i], alone.g), (plan.gap[i], alone.gap)):
            close(stacked, own, 1e-9)
        if i:  # with an iteration's gap as the tolerance of the whole stack it would stop elsewhere
            assert plan.gap[i] > 1e-9
    assert plan.f[2].isnan().any()
    assert plan.gap[[2, 4]].isnan().all()


@pytest.mark.parametrize("value", [math.inf, 1e20, 1e19])
def test_a_problem_whose_cost_overflows_ends_alone_inside_a_training_and_is_refused_elsewhere(draw, value):
    x, y, eps = draw(3, 20, 2).float(), draw(3, 15, 2, seed=1).float(), draw(3).new_tensor([1.0, 0.3, 0.1]).float()
    x[1, 0, 0] = value
    with pytest.raises(ValueError, match=r"overflow|non-finite"):
        sinkhorn(x, y, eps)
    with trusted():
        plan = sinkhorn(x, y, eps)
    assert plan.converged.tolist() == [True, False, True]
    assert plan.gap[1].isnan()
    assert plan.f[1].isnan().all()
    for i in (0, 2):
        alone = sinkhorn(x[i], y[i], float(eps[i]))
        close(plan.f[i], alone.f, 1e-5)
        close(plan.g[i], alone.g, 1e-5)


# --- passes over the cost ---------------------------------------------------------------------------------------------


def passes(monkeypatch):
    """How often the cost of one cloud to another is made from here on."""
    made, distances_to = [], module.distances_to

    def counted(y):
        distances = distances_to(y)
        return lambda x: made.append(1) or distances(x)

    monkeypatch.setattr(module, "distances_to", counted)
    return made


def test_the_gap_is_looked_at_every_five_iterations(monkeypatch, draw):
    monkeypatch.setattr(module, "KEPT", 0)
    made = passes(monkeypatch)
    sinkhorn(draw(6, 2), draw(5, 2, seed=1), 1e6)  # the first iteration is as good as any
    assert len(made) == 5
    sinkhorn(draw(6, 2), draw(5, 2, seed=1), 1e-3, max_iters=3)  # and a last pass, for a plan of the last g
    assert len(made) == 9


@pytest.mark.parametrize(("kept", "times"), [(2 * 9 * 7, 1), (2 * 9 * 7 - 1, 5)])
def test_a_cost_matrix_is_kept_up_to_a_size(kept, times, monkeypatch, draw):
    monkeypatch.setattr(module, "KEPT", kept)
    made = passes(monkeypatch)
    sinkhorn(draw(2, 9, 3), draw(2, 7, 3), 1e6)
    assert len(made) == times


def test_a_cost_matrix_is_made_in_small_blocks_of_rows(monkeypatch, draw):
    monkeypatch.setattr(module, "SMALL", 30)
    made = passes(monkeypatch)
    module.costs(draw(2, 9, 3), draw(2, 7, 3))
    assert len(made) == 5  # of 2 rows, 2 x 2 x 7 entries


@pytest.mark.parametrize("kept", [0, 10**6])
def test_blocks_of_rows_and_a_cost_made_again_change_nothing(kept, monkeypatch, draw):
    x, y, eps = draw(2, 9, 3), draw(2, 7, 3, seed=1), draw(2).exp()
    whole = sinkhorn(x, y, eps, max_iters=20)
    barycentre = whole.barycentre
    monkeypatch.setattr(kernels, "BLOCK", 30)
    monkeypatch.setattr(module, "SMALL", 30)
    monkeypatch.setattr(module, "KEPT", kept)
    parts = sinkhorn(x, y, eps, max_iters=20)
    for a, b in ((whole.f, parts.f), (whole.g, parts.g), (whole.gap, parts.gap), (barycentre, parts.barycentre)):
        close(a, b)


@pytest.mark.parametrize(("reach", "agrees"), [(0.0, True), (module.REACH, True), (60.0, False)])
def test_a_plan_that_is_kept_gives_the_potentials_of_the_log_domain(reach, agrees, monkeypatch, draw):
    """Far from the kept plan the entries that it rounds up to exp(LOWEST) would count: g travels hundreds of eps here."""
    x, y, b = draw(3, 20, 2), draw(3, 15, 2, seed=1), draw(3, 15, seed=2).exp()
    x[0, 0] += 30.0
    monkeypatch.setattr(module, "REACH", reach)
    kept = sinkhorn(x, y, 0.03, b=b, max_iters=58, tol=1e-300)
    monkeypatch.setattr(module, "KEPT", 0)
    made = sinkhorn(x, y, 0.03, b=b, max_iters=58, tol=1e-300)
    same = [torch.allclose(p, q, rtol=1e-9, atol=1e-9) for p, q in ((kept.f, made.f), (kept.g, made.g), (kept.gap, made.gap))]
    assert all(same) == agrees


@pytest.mark.parametrize("kept", [0, module.KEPT])
def test_where_a_look_is_a_wait_the_iterates_are_the_same(kept, monkeypatch, draw):
    """Near problems, and one whose g travels hundreds of eps: its iterations are done again in the log domain."""
    x, y, b = draw(3, 20, 2), draw(3, 15, 2, seed=1), draw(3, 15, seed=2).exp()
    x[0, 0] += 30.0
    monkeypatch.setattr(module, "KEPT", kept)
    for eps in (0.03, 1.0, 1e4):
        at_once = sinkhorn(x, y, eps, b=b, max_iters=58, tol=1e-300)
        with monkeypatch.context() as elsewhere:
            elsewhere.setattr(module, "waits", lambda x: True)
            patient = sinkhorn(x, y, eps, b=b, max_iters=58, tol=1e-300)
        for p, q in ((at_once.f, patient.f), (at_once.g, patient.g), (at_once.gap, patient.gap)):
            close(p, q, 1e-9)


def test_where_a_look_is_a_wait_a_problem_that_holds_nan_stays_alone(monkeypatch, draw):
    x, y = draw(3, 20, 2), draw(3, 15, 2, seed=1)
    good = sinkhorn(x, y, 0.1, tol=1e-12, max_iters=5000)
    x[1, 0, 0] = math.nan
    monkeypatch.setattr(module, "waits", lambda x: True)
    with trusted():
        plan = sinkhorn(x, y, 0.1, tol=1e-12, max_iters=5000)
    assert plan.gap[1].isnan()
    close(plan.log_plan[[0, 2]].exp(), good.log_plan[[0, 2]].exp(), 1e-9)


@pytest.mark.parametrize("d", [1, 3, kernels.FEW, kernels.FEW + 1, 20])
def test_costs_are_the_squared_distances_to_the_last_digits(d, draw):
    """A common offset of 1000, where float32 resolves 6e-5, and pairs that are 1e-3 apart."""
    x = (draw(2, 9, d) + 1000.0).float()
    y = x + 1e-3 * draw(2, 9, d, seed=1).float()
    truth = costs(x.double(), y.double())
    torch.testing.assert_close(module.costs(x, y).double(), truth, rtol=1e-6, atol=0.0)
    close(module.costs(x.double(), y.double()), truth, 1e-9)
    assert module.costs(x, y).dtype == x.dtype


def test_plans_are_detached(draw):
    x = draw(4, 2).requires_grad_()
    assert not sinkhorn(x, x + 1.0, 1.0).value.requires_grad
