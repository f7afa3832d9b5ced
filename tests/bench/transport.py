"""Sinkhorn against POT and OTT-JAX, all to a marginal error of 1e-3, and the W2 velocities at the agents' size; one core, float32.

    python tests/bench/transport.py [--out FILE.md]

Each solver gets the loosest tolerance of a grid with which the plan that it returns, summed in float64, misses its marginals by at
most 1.01e-3 (rows and columns, L1, the worst problem of a stack). Costs are part of the time, compilation is not.
"""

# ruff: noqa: E402 -- pinned before NumPy and JAX count the cores

import argparse
import math
import os
import sys
import time
import warnings
from collections.abc import Callable
from functools import partial
from pathlib import Path

os.sched_setaffinity(0, {0})

import jax
import jax.numpy as jnp
import numpy as np
import ot
import torch
from ott.geometry import epsilon_scheduler, pointcloud
from ott.problems.linear import linear_problem
from ott.solvers.linear import acceleration, sinkhorn
from timing import alternate, median, ratio, report, table

from wgf import transport

ERROR = 1.01e-3
TOLERANCES = [10 ** (-k / 8) for k in range(22, 48)]
PATIENCE = 8.0  # seconds that a search for a tolerance may take
Solver = Callable[[float], Callable[[], np.ndarray]]  # tolerance -> a solve that returns its plan, (B, M, N) or (M, N)
OTT = {
    "OTT-JAX, log domain": {},
    "OTT-JAX, log domain, momentum 1.5": {"momentum": acceleration.Momentum(value=1.5)},
    "OTT-JAX, log domain, Anderson 5": {"anderson": acceleration.AndersonAcceleration(memory=5)},
    "OTT-JAX, log domain, eps annealed": {"decay": 0.5},
    "OTT-JAX, kernel": {"lse_mode": False},
}


def ours(x: torch.Tensor, y: torch.Tensor, eps: float) -> dict[str, Solver]:
    """This project's."""

    def solver(tol: float) -> Callable[[], np.ndarray]:
        return lambda: transport.sinkhorn(x, y, eps, tol=tol, max_iters=20_000)

    return {"wgf.transport.sinkhorn": solver}


def pot_batch(x: torch.Tensor, y: torch.Tensor, eps: float) -> dict[str, Solver]:
    """POT's solvers of a stack, in torch."""

    def solver(method: str) -> Solver:
        return lambda tol: lambda: ot.solve_sample_batch(x, y, eps, tol=tol, method=method, max_iter=5_000, grad="detach").plan

    return {"POT batch, log domain": solver("log_sinkhorn"), "POT batch, kernel": solver("sinkhorn")}


def pot_one(x: torch.Tensor, y: torch.Tensor, eps: float) -> dict[str, Solver]:
    """POT's solvers of one problem, in NumPy and in torch."""
    weights = torch.full((len(x),), 1.0 / len(x))
    wide, narrow = (x.double().numpy(), y.double().numpy(), weights.double().numpy()), (x, y, weights)

    def solver(arrays: tuple, method: str) -> Solver:
        p, q, a = arrays
        return lambda tol: lambda: ot.sinkhorn(a, a, ot.dist(p, q), eps, method=method, stopThr=tol, numItermax=5_000, warn=False)

    return {
        "POT, kernel, NumPy float64": solver(wide, "sinkhorn"),
        "POT, kernel, torch float32": solver(narrow, "sinkhorn"),
        "POT, stabilised, NumPy float64": solver(wide, "sinkhorn_stabilized"),
        "POT, log domain, NumPy float64": solver(wide, "sinkhorn_log"),
        "POT, log domain, torch float32": solver(narrow, "sinkhorn_log"),
    }


def ott(x: torch.Tensor, y: torch.Tensor, eps: float) -> dict[str, Solver]:
    """OTT-JAX under jit, and vmap where there is a stack."""
    p, q = jnp.asarray(x.numpy()), jnp.asarray(y.numpy())

    def compiled(decay: float = 1.0, **options: object) -> Callable:
        def solve(p: jax.Array, q: jax.Array, tol: float) -> jax.Array:
            scheduler = epsilon_scheduler.Epsilon(eps, init=1.0 if decay == 1.0 else 50.0, decay=decay)
            problem = linear_problem.LinearProblem(pointcloud.PointCloud(p, q, epsilon=scheduler))
            out = sinkhorn.Sinkhorn(threshold=tol, max_iterations=5_000, **options)(problem)
            return out.f, out.g

        return jax.jit(jax.vmap(solve, (0, 0, None)) if p.ndim == 3 else solve)

    def solver(options: dict) -> Solver:
        solve = compiled(**options)
        return lambda tol: lambda: jax.block_until_ready(solve(p, q, tol))

    return {name: solver(options) for name, options in OTT.items()}


def error(result: object, x: torch.Tensor, y: torch.Tensor, eps: float) -> float:
    """Of a plan, or of the plan of potentials in units of the cost: how far it misses uniform marginals, the worst of a stack."""
    m, n = x.shape[-2], y.shape[-2]
    if isinstance(result, transport.Plan | tuple):
        own = isinstance(result, transport.Plan)
        f, g = (torch.as_tensor(np.array(t), dtype=torch.float64) for t in (result[0], result[1]))
        cost = (x.double()[..., :, None, :] - y.double()[..., None, :, :]).square().sum(-1)
        plan = torch.exp((f[..., :, None] + g[..., None, :] - cost) / eps) / (m * n if own else 1.0)
    else:
        plan = torch.as_tensor(result).double()
    return float(((plan.sum(-1) - 1 / m).abs().sum(-1) + (plan.sum(-2) - 1 / n).abs().sum(-1)).nan_to_num(math.inf).max())


def compare(title: str, solvers: dict[str, Solver], x: torch.Tensor, y: torch.Tensor, eps: float) -> list[dict[str, str]]:
    """Finds every solver's tolerance, times those that reach the error in turns and gives a row each."""
    cases, errors, slow = {}, {}, {}
    for name, solver in solvers.items():
        start = time.perf_counter()
        for tol in TOLERANCES:
            solve = solver(tol)
            reached = error(solve(), x, y, eps)
            if reached <= ERROR or reached == math.inf or time.perf_counter() - start > PATIENCE:
                break
        errors[name] = reached
        start = time.perf_counter()
        if reached <= ERROR:
            solve()
        slow[name] = time.perf_counter() - start
        if reached <= ERROR and slow[name] < 1.0:
            cases[name] = solve
    times = alternate(cases, rounds=5)
    rows = []
    for name in solvers:
        if name in cases:
            taken, factor = f"{1e3 * median(times[name]):.2f}", ratio(times, name, "wgf.transport.sinkhorn")
        elif errors[name] <= ERROR:
            taken, factor = f"{1e3 * slow[name]:.0f} (once)", f"{slow[name] / median(times['wgf.transport.sinkhorn']):.0f}"
        else:
            taken, factor = "fails" if errors[name] == math.inf else f"not in {PATIENCE:.0f} s", "-"
        rows.append({"problem": title, "solver": name, "error": f"{errors[name]:.1e}", "ms": taken, "of ours": factor})
        print(*rows[-1].values(), file=sys.stderr, flush=True)
    return rows


def velocities() -> list[dict[str, str]]:
    """The W2 velocities on stacks of seeds, 64 states and 32 particles in 3 dimensions."""

    def row(*shape: int) -> dict[str, str]:
        x, x_prev = torch.randn(shape), torch.randn(shape)
        names = ("median_lam", "eq9_sum", "entropic", "debiased", "exact", "common_noise")
        times = alternate({name: partial(getattr(transport, name), x, x_prev) for name in names}, rounds=9)
        return {"shape": str(shape)} | {f"{name}, ms": f"{1e3 * median(times[name]):.3f}" for name in names}

    return [row(1, 64, 32, 3), row(5, 64, 32, 3)]


def main() -> None:
    """Runs everything and prints it as Markdown."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path)
    out = parser.parse_args().out
    torch.set_num_threads(1)
    torch.manual_seed(0)
    warnings.simplefilter("ignore")
    rows = []
    for name, shape, pot in (("256 of 32 x 32", (256, 32, 6), pot_batch), ("1,024 x 1,024", (1024, 6), pot_one)):
        x, y = torch.randn(shape), 0.5 + 1.2 * torch.randn(shape)
        middle = float((x[..., :, None, :] - y[..., None, :, :]).square().sum(-1).median())
        for part in (0.1, 0.01):
            eps = part * middle
            solvers = ours(x, y, eps) | pot(x, y, eps) | ott(x, y, eps)
            rows += compare(f"{name}, eps = {part} of the median cost", solvers, x, y, eps)
    text = f"{(__doc__ or '').split(chr(10), 4)[4]}\n{table(rows)}\n\n## W2 velocities at the agents' size\n\n{table(velocities())}"
    report(out, "Sinkhorn and the W2 velocities", text, ["torch", "POT", "ott-jax", "jax", "numpy"])


if __name__ == "__main__":
    main()
