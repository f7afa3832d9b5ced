"""What an update costs: the W2 term, the particles, stacked seeds, and the overhead at small sizes.

    python tests/bench/updates.py --out runs/results/speed/updates.md

Every ratio is of cases in turns in one run. Minibatches and noise are drawn before the clock starts.
"""

import argparse
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import torch
from timing import Times, alternate, median, ratio, report, table
from torch import Tensor, nn

from wgf import trusted
from wgf.agents import registry
from wgf.agents.training import compiled, machine
from wgf.agents.training.descent import Adam
from wgf.agents.training.protocol import Batch, Streams
from wgf.agents.training.rollout import Segment
from wgf.agents.training.schedule import Schedule

OBS, ACTION = 11, 3  # Hopper-v5


def update(name: str, preset: str, seeds: int = 1, compile: bool = False, **changes: object) -> Callable[[], object]:
    """One update of a stack of seeds on a minibatch that stays the same; as machine code it is made here."""
    agent, cfg = registry.find(name, preset)
    cfg = replace(cfg, **changes)
    generators = [torch.Generator().manual_seed(k) for k in range(seeds)]
    state, draw = agent.init(cfg, OBS, ACTION, generators, torch.device("cpu")), Streams(generators)
    n = agent.memory(cfg, Schedule()).batch
    batch = Batch(
        draw.normal(n, OBS), 2.0 * draw.uniform(n, ACTION) - 1.0, draw.normal(n), torch.full((seeds, n), 0.99), draw.normal(n, OBS)
    )
    noise = agent.noise(cfg, ACTION, draw)
    change = compiled.update(agent, cfg, state, compile=compile)
    if compile:
        with trusted():
            change(batch, noise)
    return lambda: change(batch, noise)


def on_segments(name: str, preset: str, compile: bool = False, **changes: object) -> Callable[[], object]:
    """One update of an agent that learns from segments, on one that stays the same, of the size that its preset collects."""
    agent, cfg = registry.find(name, preset)
    cfg = replace(cfg, **changes)
    collects, g = agent.memory(cfg, Schedule()), [torch.Generator().manual_seed(0)]
    state = agent.init(cfg, OBS, ACTION, g, torch.device("cpu"))
    axes = (1, collects.policies, collects.steps, collects.each)
    obs, action, next_obs = (torch.randn(*axes, n, generator=g[0]) for n in (OBS, ACTION, OBS))
    reward, discount, ended = torch.randn(axes, generator=g[0]), torch.full(axes, cfg.gamma), torch.zeros(axes, dtype=torch.bool)
    segment, draw = Segment(obs, action, reward, discount, ended, next_obs), Streams(g)
    collects.explore(state, draw)
    change = compiled.update(agent, cfg, state, compile=compile, whole=False)
    return lambda: change(segment, agent.noise(cfg, ACTION, draw))


def plain_sac(batch: int, width: int) -> Callable[[], object]:
    """SAC as today's single-file scripts write it: nn.Linear, autograd, fused Adam, foreach averaging."""

    def mlp(i: int, o: int) -> nn.Sequential:
        return nn.Sequential(nn.Linear(i, width), nn.ReLU(), nn.Linear(width, width), nn.ReLU(), nn.Linear(width, o))

    actor, qs, targets = mlp(OBS, 2 * ACTION), [mlp(OBS + ACTION, 1) for _ in "ab"], [mlp(OBS + ACTION, 1) for _ in "ab"]
    log_alpha = torch.zeros(1, requires_grad=True)
    q_parameters, t_parameters = ([p for net in nets for p in net.parameters()] for nets in (qs, targets))
    adams = [torch.optim.Adam(p, lr=3e-4, fused=True) for p in (actor.parameters(), q_parameters, [log_alpha])]
    obs, after, action = torch.randn(batch, OBS), torch.randn(batch, OBS), 2.0 * torch.rand(batch, ACTION) - 1.0
    reward = torch.randn(batch, 1)

    def sample(s: Tensor) -> tuple[Tensor, Tensor]:
        mean, log_std = actor(s).chunk(2, -1)
        law = torch.distributions.Normal(mean, log_std.clamp(-20.0, 2.0).exp())
        u = law.rsample()
        a = torch.tanh(u)
        return a, (law.log_prob(u) - torch.log(1.0 - a.square() + 1e-6)).sum(-1, keepdim=True)

    def descend(adam: torch.optim.Optimizer, loss: Tensor) -> None:
        adam.zero_grad()
        loss.backward()
        adam.step()

    def step() -> None:
        alpha = log_alpha.detach().exp()
        with torch.no_grad():
            a, log_prob = sample(after)
            x = torch.cat([after, a], -1)
            y = reward + 0.99 * (torch.minimum(targets[0](x), targets[1](x)) - alpha * log_prob)
        x = torch.cat([obs, action], -1)
        descend(adams[1], sum(nn.functional.mse_loss(q(x), y) for q in qs))
        a, log_prob = sample(obs)
        x = torch.cat([obs, a], -1)
        descend(adams[0], (alpha * log_prob - torch.minimum(qs[0](x), qs[1](x))).mean())
        descend(adams[2], -(log_alpha * (log_prob.detach() - ACTION)).mean())
        with torch.no_grad():
            torch._foreach_lerp_(t_parameters, q_parameters, 0.005)

    return step


def products(batch: int, width: int, seeds: int = 1) -> Callable[[], object]:
    """The matrix products of one SAC update of a stack of seeds and nothing else: what any implementation has to compute."""

    def network(cells: int, rows: int, i: int, o: int) -> tuple[Callable[[], object], Callable[[], object], Callable[[], object]]:
        x, h, g, y = (torch.randn(cells, rows, n) for n in (i, width, width, o))
        w1, w2, w3 = (torch.randn(cells, *s) for s in ((i, width), (width, width), (width, o)))
        return (
            lambda: (torch.bmm(x, w1), torch.bmm(h, w2), torch.bmm(h, w3)),  # an evaluation
            lambda: (torch.bmm(y, w3.mT), torch.bmm(g, w2.mT)),  # backward to the first layer
            lambda: (torch.bmm(h.mT, y), torch.bmm(h.mT, g), torch.bmm(x.mT, g)),  # gradients of the weights
        )

    q, q_back, q_weights = network(2 * seeds, batch, OBS + ACTION, 1)
    both, _, _ = network(seeds, 2 * batch, OBS, 2 * ACTION)
    _, policy_back, policy_weights = network(seeds, batch, OBS, 2 * ACTION)
    calls = (both, q, q, q_back, q_weights, q, q_back, policy_back, policy_weights)

    def step() -> None:
        for call in calls:
            call()

    return step


def adam_step(flush: bool) -> Callable[[], object]:
    """Adam on 140,000 numbers, the moments of a tenth below the normal range, as where units have died."""
    adam = Adam(torch.randn(140_000), 3e-4)
    gradient = torch.randn(140_000)
    gradient[::10] = 0.0
    faded = torch.full((14_000,), 1e-40)

    def step() -> None:
        torch.set_flush_denormal(flush)
        adam.m[::10] = faded
        adam.step(gradient)

    return step


def timed(cases: dict[str, Callable[[], object]], threads: int, rounds: int) -> Times:
    """In turns on so many threads."""
    torch.set_num_threads(threads)
    with trusted(), machine.tuned():
        return alternate(cases, rounds)


def row(times: Times, name: str, base: str, seeds: int = 1) -> dict[str, str]:
    """One line: milliseconds, updates a second of all seeds, and how many times longer than ``base``."""
    ms = 1e3 * median(times[name])
    return {"update": name, "ms": f"{ms:.2f}", "updates/s": f"{1e3 * seeds / ms:,.0f}", f"time / {base}": ratio(times, name, base)}


def main() -> None:
    """Measures and reports."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--out", type=Path)
    args = parser.parse_args()
    small = {"batch": 64, "hidden": (128, 128)}
    parts = []

    cases = {
        "wgf": update("sac", "modern", **small),
        "wgf, compiled": update("sac", "modern", compile=True, **small),
        "plain torch, fused Adam": plain_sac(64, 128),
        "matrix products alone": products(64, 128),
    }
    times = timed(cases, 1, args.rounds)
    parts.append(("SAC at batch 64, 128-128, one thread", [row(times, name, "wgf") for name in cases]))

    names = ("soft-q", "dp-wgf", "dp-wgf:w2_scale=0", "dp-wgf:w2=common_noise")
    settings: tuple[dict[str, object], ...] = ({}, {}, {"w2_scale": 0.0}, {"w2": "common_noise", "previous": "average"})
    for title, compile in (("one thread", False), ("as machine code, one thread", True)):
        cases = {n: update(n.partition(":")[0], "paper", compile=compile, **s) for n, s in zip(names, settings, strict=True)}
        times = timed(cases, 1, args.rounds)
        parts.append((f"DP-WGF, paper preset, 32 particles, {title}", [row(times, name, "soft-q") for name in cases]))
        parts.append((f"The W2 term on and off, {title}", [row(times, name, "dp-wgf:w2_scale=0") for name in cases if name != "soft-q"]))

    names = ("dp-wgf-v:w2_scale=0", "dp-wgf-v", "dp-wgf-v:w2=common_noise", "sac")
    settings = ({"w2_scale": 0.0}, {}, {"w2": "common_noise", "previous": "average"}, {})
    cases = {n: update(n.partition(":")[0], "paper", **s) for n, s in zip(names, settings, strict=True)}
    times = timed(cases, 1, args.rounds)
    parts.append(("DP-WGF-V, paper preset, 32 particles, one thread", [row(times, name, names[0]) for name in cases]))
    parts.append(("DP-WGF-V against SAC (paper)", [row(times, name, "sac") for name in ("dp-wgf-v", "sac")]))

    replay = (("sac", "modern"), ("ddpg", "paper"), ("soft-q", "paper"), ("dp-wgf", "paper"), ("dp-wgf-v", "paper"), ("wpo", "modern"))
    segments = (("ppo", "modern"), ("trpo", "modern"), ("ip-wgf", "paper"), ("svpg", "paper"))
    for make, name, preset in [(update, *each) for each in replay] + [(on_segments, *each) for each in segments]:
        cases = {name: make(name, preset), f"{name}, compiled": make(name, preset, compile=True)}
        times = timed(cases, 1, args.rounds)
        parts.append((f"{name} as machine code, {preset} preset, one thread", [row(times, case, name) for case in cases]))

    for title, preset, threads in (("batch 256, 256-256", "modern", 2), ("paper preset", "paper", 2)):
        cases = {f"{n} seed{'s' * (n > 1)}": update("sac", preset, seeds=n) for n in (1, 4, 8)}
        times = timed(cases, threads, args.rounds)
        rows = [row(times, name, "1 seed", int(name.split()[0])) for name in cases]
        for r, name in zip(rows, cases, strict=True):
            n = int(name.split()[0])
            r["total rate / 1 seed"] = f"{n * median(times['1 seed']) / median(times[name]):.2f}"
        parts.append((f"SAC, stacked seeds, {title}, {threads} threads", rows))
        size = (256, 256) if preset == "modern" else (64, 128)
        cases = {f"{n} seed{'s' * (n > 1)}": products(*size, n) for n in (1, 4)}
        times = timed(cases, threads, args.rounds)
        total = f"{4 * median(times['1 seed']) / median(times['4 seeds']):.2f}"
        rows = [
            {**row(times, name, "1 seed", int(name.split()[0])), "total rate / 1 seed": total if "4" in name else "1.00"} for name in cases
        ]
        parts.append((f"Its matrix products alone, {title}, {threads} threads", rows))

    cases = {"flushed to zero": adam_step(True), "kept": adam_step(False)}
    torch.set_num_threads(1)
    times = alternate(cases, args.rounds)
    parts.append(("Adam with faded moments", [row(times, name, "flushed to zero") for name in cases]))

    text = "Medians of the rounds; ratios: median over rounds [middle half].\n\n"
    report(args.out, "Updates", text + "\n\n".join(f"## {title}\n\n{table(rows)}" for title, rows in parts), ["wgflow", "torch"])


if __name__ == "__main__":
    main()
