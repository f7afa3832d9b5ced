"""One SVGD step against blackjax's: median bandwidth, the score of a standard normal, particles updated, float32, one core.

    python tests/bench/svgd.py [--rounds 15] [--out FILE.md]

Both take the same step where they are given the same bandwidth, which is checked first. blackjax's step is compiled, and compiling is
not timed. It takes the median after the particles have moved, this project before. It looks at no value; this project is timed both
with its check of the values and inside ``trusted()``, where the caller vouches for them.
"""

import argparse
import math
import os
from collections.abc import Callable
from pathlib import Path

if hasattr(os, "sched_setaffinity"):
    os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})  # before jax looks for cores

import blackjax
import jax
import jax.numpy as jnp
import optax
import torch
from blackjax.vi.svgd import SVGDState
from timing import alternate, median, ratio, report, table

from wgf import kernels, svgd, trusted

SIZES = ((20, 753), (100, 2000), (1000, 100), (16, 10_000))
DRAWS = ((1, 64, 32, 3), (5, 64, 32, 3), (1, 256, 32, 6))
LR = 1.0


def step(x: torch.Tensor) -> torch.Tensor:
    """x + lr phi."""
    return x + LR * svgd.velocity(x, -x)


def vouched(x: torch.Tensor) -> torch.Tensor:
    """The same where the caller vouches for the values."""
    with trusted():
        return step(x)


def peer(x: torch.Tensor) -> tuple[Callable[[SVGDState], SVGDState], SVGDState]:
    """blackjax's compiled step, with its own kernel and median, and a state at x whose kernel exp(-|x - y|^2 / h) has our h."""
    algorithm = blackjax.svgd(jax.grad(lambda z: -0.5 * (z**2).sum()), optax.sgd(LR))
    h = 2.0 * float(kernels.median_svgd(x)) ** 2
    return jax.jit(algorithm.step), algorithm.init(jnp.asarray(x.numpy()), {"length_scale": jnp.float32(h)})


def against_blackjax(rounds: int) -> list[dict[str, str]]:
    """A row a size."""
    rows = []
    for m, d in SIZES:
        x = torch.randn(m, d, generator=torch.Generator().manual_seed(0))
        compiled, state = peer(x)
        after = compiled(state)
        move, other = step(x) - x, torch.from_numpy(jax.device_get(after.particles).copy()) - x
        worst = float((move - other).abs().max() / move.abs().max())
        assert worst < 1e-4, f"{m} x {d}: the steps differ by {worst:.1e} of the largest"
        moved = 2.0 * float(kernels.median_svgd(step(x))) ** 2
        assert math.isclose(float(after.kernel_parameters["length_scale"]), moved, rel_tol=1e-4), f"{m} x {d}: the bandwidths differ"
        cases = {
            "ours": lambda x=x: vouched(x),
            "checked": lambda x=x: step(x),
            "blackjax": lambda f=compiled, s=state: jax.block_until_ready(f(s)),
        }
        times = alternate(cases, rounds)
        rows.append(
            {
                "M x d": f"{m} x {d}",
                "ours, ms": f"{1e3 * median(times['ours']):.3f}",
                "values checked, ms": f"{1e3 * median(times['checked']):.3f}",
                "blackjax, ms": f"{1e3 * median(times['blackjax']):.3f}",
                "blackjax / ours": ratio(times, "blackjax", "ours"),
                "blackjax / checked": ratio(times, "blackjax", "checked"),
                "largest difference of the steps": f"{worst:.0e}",
            }
        )
    return rows


def of_agents(rounds: int) -> list[dict[str, str]]:
    """A row a shape: draws of an agent's minibatch, whose values are vouched for."""
    rows = []
    for shape in DRAWS:
        x = torch.randn(shape, generator=torch.Generator().manual_seed(0))
        cases = {f"groups = {g}": lambda x=x, g=g: svgd.unbiased(x, -x, groups=g) for g in (1, 4)}
        with trusted():
            times = alternate(cases, rounds)
        rows.append(
            {"seeds x states x M x d": " x ".join(map(str, shape)), **{f"{k}, ms": f"{1e3 * median(t):.2f}" for k, t in times.items()}}
        )
    return rows


def main() -> None:
    """Prints both tables and writes them where asked."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--out", type=Path)
    args = parser.parse_args()
    torch.set_num_threads(1)
    freed = torch.zeros(2**22)  # from here on glibc keeps up to 32 MiB of freed memory, as in any process that has handled data
    del freed
    agents = of_agents(args.rounds)
    text = f"""One step: score, bandwidth, velocity, update. Times are medians of {args.rounds} rounds in turns; a ratio is the median over
rounds, with its middle half. The last column is the largest entry of the difference of the two steps over the largest entry of a
step, taken with one bandwidth. The process has freed 16 MiB before: a fresh one gives freed memory back after every step, and takes
up to half again as long where particles fill megabytes.

{table(against_blackjax(args.rounds))}

`svgd.unbiased` at the agents' sizes:

{table(agents)}"""
    report(args.out, "One SVGD step", text, ("torch", "blackjax", "jax", "jaxlib"))


if __name__ == "__main__":
    main()
