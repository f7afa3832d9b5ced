"""What WPO's update costs beside SAC's, and a conjugate-gradient step beside a gradient.

    python tests/bench/wpo.py --out runs/results/speed/wpo.md

Every ratio is of cases in turns in one run. Minibatches and noise are drawn before the clock starts.
"""

import argparse
from pathlib import Path

import torch
from timing import Times, median, report, table
from torch import Tensor
from torch.func import grad
from updates import row, timed, update

from wgf import projection
from wgf.policies.gaussian import GaussianMixture, noise_size
from wgf.policies.unbounded import flat, unflat

STATES, ACTION, DRAWS = 256, 3, 64


def products(components: int, steps: tuple[int, int], rounds: int) -> tuple[Times, float]:
    """A gradient of the log-densities of all draws in every parameter, and directions of ``steps``; seconds of one step."""
    g = torch.Generator().manual_seed(0)
    shape = (STATES, components, ACTION)
    law = GaussianMixture(torch.randn(shape[:2], generator=g), torch.randn(shape, generator=g), torch.rand(shape, generator=g) + 0.5)
    phi, noise = flat(law), torch.randn(STATES, 2 * DRAWS, noise_size(components, ACTION), generator=g)
    a, others = law.draw(noise).chunk(2, -2)
    slope = torch.randn(a.shape, generator=g)

    def log_prob(phi: Tensor, u: Tensor) -> Tensor:
        return unflat(phi, law).log_prob(u)

    def gradient() -> Tensor:
        return grad(lambda each: log_prob(each, others).sum())(phi[..., None, :].expand(*others.shape[:-1], -1))

    def direction(n: int) -> Tensor:
        return projection.direction(log_prob, phi, a, slope, others, damping=1e-2, steps=n)

    few, many = steps
    times = timed({"gradient": gradient, "few": lambda: direction(few), "many": lambda: direction(many)}, 1, rounds)
    return times, (median(times["many"]) - median(times["few"])) / (many - few)


def main() -> None:
    """Measures and reports."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--out", type=Path)
    args = parser.parse_args()

    same = {"samples": 1, "n_step": 1, "members": 2, "hidden": (256, 256), "critic_hidden": (256, 256)}
    general = {**same, "policy": "mixture", "components": 3}
    cases = {
        "sac": update("sac", "modern"),
        "wpo, 1 action": update("wpo", "modern", **same),
        "wpo, 4 actions": update("wpo", "modern"),
        "wpo, 1 action, mixture of 3": update("wpo", "modern", **general),
    }
    times = timed(cases, 1, args.rounds)
    parts = [("Batch 256, 256-256, two critics, Hopper-v5's sizes, one thread", [row(times, name, "sac") for name in cases])]

    cases = {"sac": update("sac", "modern", compile=True), "wpo, 1 action": update("wpo", "modern", compile=True, **same)}
    times = timed(cases, 1, args.rounds)
    parts.append(("The same as machine code", [row(times, name, "sac") for name in cases]))

    rows = []
    for components in (1, 3):
        times, step = products(components, (5, 25), args.rounds)
        each = f"{1e3 * median(times['gradient']):.2f}"
        rows.append(
            {
                "components": str(components),
                "one gradient, ms": each,
                "one conjugate-gradient step, ms": f"{1e3 * step:.2f}",
                "step / gradient": f"{step / median(times['gradient']):.2f}",
            }
        )
    parts.append((f"Conjugate gradients on the Fisher matrices of {STATES} states, {DRAWS} draws each, A = {ACTION}, one thread", rows))
    text = "Medians of the rounds; ratios: median over rounds [middle half].\n\n"
    report(args.out, "WPO", text + "\n\n".join(f"## {title}\n\n{table(rows)}" for title, rows in parts), ["wgflow", "torch"])


if __name__ == "__main__":
    main()
