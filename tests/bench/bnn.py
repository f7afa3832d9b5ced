"""One iteration of Bayesian regression, and twenty splits side by side, against hand-written numpy and compiled JAX.

    python tests/bench/bnn.py [--rounds 15] [--device cpu] [--out FILE.md]

Boston's size: 13 features, 50 ReLU units, 20 particles of 753 numbers, minibatches of 100, weights held as they are, float32, one core.
A case takes 2,000 iterations in a row, the default budget: minibatch, score, velocity, RMSProp. Ours is the whole ``fit``, with its 20
looks at the dev part; of twenty splits 500.
numpy computes all particles at once with the gradient written out; JAX is one compiled function an iteration, whose gradient is its own;
compiling is not timed, neither JAX's nor ours where the row says compiled. All take the same steps, which is checked first.
"""

import argparse
import os
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

if hasattr(os, "sched_setaffinity"):
    os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})  # before jax looks for cores

import jax
import jax.numpy as jnp
import numpy as np
import torch
from timing import alternate, median, ratio, report, table

from wgf.agents.training import machine
from wgf.bnn import Settings, fit

N, D, H, M, B = 450, 13, 50, 20, 100
ROWS = 500  # N of them are trained on, the others are the dev part
STEPS, SHORT, LR, A0, B0 = 2_000, 500, 1e-3, 1.0, 0.1
SPLITS = 20
EARLY = 20  # iterations after which the particles are compared: rounding grows later
WEIGHTS = D * H + H + H + 1
SVGD = Settings("svgd", (H,), M, STEPS, B, LR, anneal=False, centred=True, keep="last")


def data(splits: int, device: str = "cpu") -> tuple[torch.Tensor, torch.Tensor]:
    """Inputs (S, N + dev, D) and targets (S, N + dev, 1), float64."""
    g = torch.Generator().manual_seed(0)
    x = torch.randn(splits, ROWS, D, generator=g, dtype=torch.float64)
    y = (x @ torch.randn(D, generator=g, dtype=torch.float64) / D**0.5).tanh() + 0.3 * torch.randn(splits, ROWS, generator=g)
    return x.to(device), y[..., None].to(device)


def ours(settings: Settings, x: torch.Tensor, y: torch.Tensor, compile: bool = False) -> torch.Tensor:
    """A whole fit, its looks too: particles after the last iteration."""
    with machine.tuned():
        return fit(settings, x, y, range(len(x)), compile=compile).particles.cpu()


def trained_on(x: torch.Tensor, y: torch.Tensor) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """What the others start from and see: particles (M, P), and the standardised rows that ``fit`` trains on."""
    xs, ys = (((t[:1, :N] - t[:1, :N].mean(1, keepdim=True)) / t[:1, :N].std(1, correction=0, keepdim=True)).float() for t in (x, y))
    particles = SVGD.model(D).init(xs, ys, [torch.Generator().manual_seed(0)])
    return particles[0].numpy().copy(), xs[0].numpy(), ys[0, :, 0].numpy()


def by_numpy(particles: np.ndarray, x: np.ndarray, y: np.ndarray, steps: int = STEPS) -> np.ndarray:
    """SVGD, everything for all particles at once, float32."""
    theta, history = particles.copy(), None
    for step in range(steps):
        rows = np.arange(step * B, (step + 1) * B) % N
        xb, yb = x[rows], y[rows]
        w1, b1 = theta[:, : D * H].reshape(M, D, H), theta[:, D * H : D * H + H]
        w2, b2 = theta[:, D * H + H : WEIGHTS - 1], theta[:, WEIGHTS - 1]
        gamma, lam = np.exp(theta[:, -2]), np.exp(theta[:, -1])
        h = np.maximum(xb @ w1 + b1[:, None], 0)
        residual = (h @ w2[..., None])[..., 0] + b2[:, None] - yb
        g = -(N / B) * gamma[:, None] * residual
        score = np.empty_like(theta)
        back = g[..., None] * w2[:, None] * (h > 0)
        score[:, : D * H] = (xb.T @ back).reshape(M, -1)
        score[:, D * H : D * H + H] = back.sum(1)
        score[:, D * H + H : WEIGHTS - 1] = (g[:, None] @ h)[:, 0]
        score[:, WEIGHTS - 1] = g.sum(1)
        score[:, :WEIGHTS] -= lam[:, None] * theta[:, :WEIGHTS]
        score[:, -2] = 0.5 * (N / B) * (B - gamma * (residual**2).sum(1)) + A0 - B0 * gamma
        score[:, -1] = 0.5 * (WEIGHTS - lam * (theta[:, :WEIGHTS] ** 2).sum(1)) + A0 - B0 * lam
        norms = (theta**2).sum(1)
        squares = np.maximum(norms[:, None] + norms - 2 * theta @ theta.T, 0)
        width = np.median(np.sqrt(squares[np.triu_indices(M, 1)])) ** 2 / np.log(M)
        k = np.exp(-squares / width)
        phi = (k @ score + 2 / width * (k.sum(1)[:, None] * theta - k @ theta)) / M
        history = phi**2 if history is None else 0.9 * history + 0.1 * phi**2
        theta += LR * phi / (1e-6 + np.sqrt(history))
    return theta


def _log_density(theta: jax.Array, xb: jax.Array, yb: jax.Array) -> jax.Array:
    w1, b1 = theta[: D * H].reshape(D, H), theta[D * H : D * H + H]
    w2, b2 = theta[D * H + H : WEIGHTS - 1], theta[WEIGHTS - 1]
    weights, log_gamma, log_lam = theta[:WEIGHTS], theta[-2], theta[-1]
    residual = jax.nn.relu(xb @ w1 + b1) @ w2 + b2 - yb
    likelihood = 0.5 * (B * log_gamma - jnp.exp(log_gamma) * (residual**2).sum())
    prior = 0.5 * (WEIGHTS * log_lam - jnp.exp(log_lam) * (weights**2).sum())
    return N / B * likelihood + prior + sum(A0 * t - B0 * jnp.exp(t) for t in (log_gamma, log_lam))


@partial(jax.jit, donate_argnums=(0, 1))
def _jax_step(theta: jax.Array, history: jax.Array, first: jax.Array, xb: jax.Array, yb: jax.Array) -> tuple[jax.Array, jax.Array]:
    score = jax.vmap(jax.grad(_log_density), (0, None, None))(theta, xb, yb)
    norms = (theta**2).sum(1)
    squares = jnp.maximum(norms[:, None] + norms - 2 * theta @ theta.T, 0)
    width = jnp.median(jnp.sqrt(squares[jnp.triu_indices(M, 1)])) ** 2 / jnp.log(M)
    k = jnp.exp(-squares / width)
    phi = (k @ score + 2 / width * (k.sum(1)[:, None] * theta - k @ theta)) / M
    history = jnp.where(first, phi**2, 0.9 * history + 0.1 * phi**2)
    return theta + LR * phi / (1e-6 + jnp.sqrt(history)), history


def by_jax(particles: np.ndarray, batches: Sequence[tuple[jax.Array, jax.Array]], steps: int = STEPS) -> np.ndarray:
    """The same, compiled."""
    theta = jnp.array(particles)
    history = jnp.zeros_like(theta)
    for step in range(steps):
        theta, history = _jax_step(theta, history, jnp.bool_(step == 0), *batches[step % len(batches)])
    return np.asarray(theta)


def against_peers(rounds: int) -> str:
    """A row a way of computing an iteration, one core."""
    x, y = data(1)
    particles, xs, ys = trained_on(x, y)
    batches = [(jnp.asarray(xs[r]), jnp.asarray(ys[r])) for r in (np.arange(s * B, (s + 1) * B) % N for s in range(N // B * 2 + 1))]
    cases: dict[str, Callable[[], object]] = {
        "SVGD": lambda: ours(SVGD, x, y),
        "SVGD, compiled": lambda: ours(SVGD, x, y, compile=True),
        "WGF, exact": lambda: ours(replace(SVGD, flow="wgf", w2="exact"), x, y),
        "WGF, Eq. 9": lambda: ours(replace(SVGD, flow="wgf", w2="eq9_sum"), x, y),
        "WGF, Eq. 9, compiled": lambda: ours(replace(SVGD, flow="wgf", w2="eq9_sum"), x, y, compile=True),
        "SVGD, numpy": lambda: by_numpy(particles, xs, ys),
        "SVGD, JAX": lambda: by_jax(particles, batches),
    }
    early = ours(replace(SVGD, iterations=EARLY), x, y)[0].numpy()
    compiled = ours(replace(SVGD, iterations=EARLY), x, y, compile=True)[0].numpy()
    for other in (by_numpy(particles, xs, ys, EARLY), by_jax(particles, batches, EARLY), compiled):
        worst = np.abs(other - early).max() / np.abs(early - particles).max()
        assert worst < 1e-3, f"after {EARLY} iterations the particles differ by {worst:.1e} of the largest move"
    times = alternate(cases, rounds)
    rows = [
        {
            "iteration": name,
            "a second": f"{STEPS / median(times[name]):,.0f}",
            "numpy / it": ratio(times, "SVGD, numpy", name),
            "JAX / it": ratio(times, "SVGD, JAX", name),
        }
        for name in cases
    ]
    return table(rows)


def stacked(rounds: int, device: str) -> str:
    """Twenty splits as one computation against one after another."""
    x, y = data(SPLITS, device)
    settings = replace(SVGD, iterations=SHORT)
    cases = {
        "one after another": lambda: [ours(settings, x[s : s + 1], y[s : s + 1]) for s in range(SPLITS)],
        "side by side": lambda: ours(settings, x, y),
        "compiled": lambda: ours(settings, x, y, compile=True),
    }
    start = time.perf_counter()
    cases["compiled"]()
    first = time.perf_counter() - start
    times = alternate(cases, rounds)
    return (
        f"{SPLITS} splits of {SHORT} iterations on {device}: {median(times['one after another']):.2f} s one after another, "
        f"{median(times['side by side']):.2f} s side by side, a factor of {ratio(times, 'one after another', 'side by side')}; "
        f"{median(times['compiled']):.2f} s compiled, a factor of {ratio(times, 'side by side', 'compiled')} more, "
        f"for {first - median(times['compiled']):.0f} s of compiling."
    )


def main() -> None:
    """Prints, and writes where asked."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--out", type=Path)
    args = parser.parse_args()
    torch.set_num_threads(1)
    text = f"{against_peers(args.rounds)}\n\n{stacked(min(args.rounds, 5), args.device)}"
    report(args.out, "Bayesian regression, one core", text, ["torch", "numpy", "jax"])


if __name__ == "__main__":
    main()
