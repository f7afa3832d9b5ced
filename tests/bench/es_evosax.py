"""An iteration of evolution strategies on a point in the plane: ES here, against evosax's OpenES.

    python tests/bench/es_evosax.py [--pairs 50 250] [--rounds 15] [--out FILE.md]

The same in both, float32, on one core: so many antithetic pairs, a policy of 16 and 16 tanh units, episodes of 50 steps from one start that
is another at each iteration, standardised returns, Adam. The task is the point without its wall, its equations in torch and in JAX; that
both give the same returns to the same policies is checked first. In JAX an iteration is one compiled function, from the draw of the
population to the step of the centre. Compiling is not timed. What counts is processor time, of all threads together, so that other work
on the core hardly moves it.
"""

import argparse
import os
import time
from functools import partial
from pathlib import Path

if hasattr(os, "sched_setaffinity"):
    os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})  # before jax looks for cores

import jax
import jax.numpy as jnp
import numpy as np
import optax
import torch
from evosax.algorithms import Open_ES
from evosax.core.fitness_shaping import standardize_fitness_shaping_fn
from timing import alternate, median, ratio, report, table

from wgf import trusted
from wgf.agents import es
from wgf.agents.tasks import TASKS
from wgf.agents.tasks.fleet import Fleet
from wgf.agents.tasks.point_wall import FORCE, GOAL, MASS, SKIP, STEP, PointWall
from wgf.agents.training.population import Iteration
from wgf.agents.training.protocol import Actor, Streams
from wgf.agents.training.schedule import Schedule

HORIZON, HIDDEN, STD, LR = 50, 16, 0.1, 0.1
CPU = torch.device("cpu")


class Point(PointWall):
    """The point without a wall: v' = v + h F a / m, x' = x + h v', twice per action; the reward is minus the distance to the goal."""

    def advance(self, state: torch.Tensor, action: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """As ``PointWall.advance``."""
        x, v = state.chunk(2, -1)
        push = action.clamp(-1.0, 1.0) * (FORCE / MASS)
        for _ in range(SKIP):
            v = v + STEP * push
            x = x + STEP * v
        away = (x - x.new_tensor(GOAL)).norm(dim=-1)
        return torch.cat([x, v], -1), -away, torch.zeros_like(away, dtype=torch.bool)


TASKS["Point"] = Point()


class Ours:
    """ES on a population of so many pairs; ``compile``: the steps of the task as machine code, as a training has them by itself."""

    def __init__(self, pairs: int, compile: bool) -> None:
        self.cfg = es.Config(pairs=pairs, horizon=HORIZON, hidden=(HIDDEN, HIDDEN), noise_std=STD, lr=LR)
        self.memory = es.memory(self.cfg, Schedule())
        self.state = es.init(self.cfg, 6, 2, [torch.Generator().manual_seed(0)], CPU)
        self.draw = Streams([torch.Generator().manual_seed(0)])
        self.envs = Fleet("Point", self.memory.envs, CPU, compile)
        self.memory.begin(self.envs, [0], CPU)
        self.actor = Actor(partial(es.act, self.cfg), self.state, lambda n: None)

    def played(self) -> Iteration:
        """An iteration of the population that is there."""
        self.memory.collect(self.actor)
        return next(iter(self.memory.batches()))

    def __call__(self) -> None:
        with trusted():
            self.memory.explore(self.state, self.draw)
            es.update(self.cfg, self.state, self.played(), es.noise(self.cfg, 2, self.draw))()


def returned(theta: jax.Array, start: jax.Array) -> jax.Array:
    """The return of one policy, theta as a ``wgf.mlp.MLP`` of this size has it, from a start (2,)."""
    w1, b1, w2, b2, w3, b3 = jnp.split(theta, np.cumsum([6 * HIDDEN, HIDDEN, HIDDEN * HIDDEN, HIDDEN, 2 * HIDDEN]).tolist())
    w1, w2, w3 = w1.reshape(6, HIDDEN), w2.reshape(HIDDEN, HIDDEN), w3.reshape(HIDDEN, 2)

    def step(state: tuple[jax.Array, jax.Array], _: None) -> tuple[tuple[jax.Array, jax.Array], jax.Array]:
        x, v = state
        still = jnp.zeros(1)
        obs = jnp.concatenate([x, still, v, still])
        action = jnp.tanh(jnp.tanh(jnp.tanh(obs @ w1 + b1) @ w2 + b2) @ w3 + b3)
        push = jnp.clip(action, -1.0, 1.0) * (FORCE / MASS)
        for _ in range(SKIP):
            v = v + STEP * push
            x = x + STEP * v
        return (x, v), -jnp.linalg.norm(x - jnp.array(GOAL))

    return jax.lax.scan(step, (start, jnp.zeros(2)), None, HORIZON)[1].sum()


class OpenES:
    """evosax's OpenES on the same, an iteration as one compiled function."""

    def __init__(self, pairs: int, theta: torch.Tensor) -> None:
        centre = jnp.array(theta.numpy())
        shape = standardize_fitness_shaping_fn
        search = Open_ES(2 * pairs, centre, True, optax.adam(LR), optax.constant_schedule(STD), shape)
        params = search.default_params
        self.key = jax.random.key(0)
        self.state = search.init(self.key, centre, params)
        many = jax.vmap(returned, (0, None))

        @jax.jit
        def iterate(key, state):  # type: ignore[no-untyped-def]
            key, start, ask, tell = jax.random.split(key, 4)
            population, state = search.ask(ask, state, params)
            fitness = -many(population, 0.2 * jax.random.uniform(start, (2,)) - 0.1)  # it descends
            return key, search.tell(tell, population, fitness, state, params)[0]

        self.iterate = iterate

    def __call__(self) -> None:
        self.key, self.state = jax.block_until_ready(self.iterate(self.key, self.state))


def check(pairs: int) -> None:
    """Fails unless both give the same returns, to a thousandth, to the same policies from the same start."""
    mine = Ours(pairs, False)
    mine.memory.explore(mine.state, mine.draw)
    found = mine.played().returns[0].numpy()
    mine.envs.reset([0], common=0)
    start = jnp.array(mine.envs.state[0, 0, :2].numpy())
    theirs = jax.vmap(returned, (0, None))(jnp.array(mine.state.population[0].numpy()), start)
    np.testing.assert_allclose(np.asarray(theirs), found, rtol=1e-3)


def main() -> None:
    """Prints, and writes where asked."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--pairs", type=int, nargs="+", default=[50, 250])
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--out", type=Path)
    args = parser.parse_args()
    torch.set_num_threads(1)
    rows = []
    for pairs in args.pairs:
        check(pairs)
        cases = {"plain": Ours(pairs, False), "compiled": Ours(pairs, True)}
        cases["evosax"] = OpenES(pairs, cases["plain"].state.policy.theta[0])
        times = alternate(cases, args.rounds, clock=time.process_time)
        rows.append(
            {
                "pairs": str(pairs),
                **{f"{name}, ms": f"{1e3 * median(each):.2f}" for name, each in times.items()},
                "evosax / plain": ratio(times, "evosax", "plain"),
                "evosax / compiled": ratio(times, "evosax", "compiled"),
            }
        )
    text = (
        f"Processor time of an iteration: episodes of {HORIZON} steps, one core, float32. plain and compiled are ours, without and with "
        f"machine code. Medians of {args.rounds} rounds; ratios: median over rounds [middle half], above 1 ours is faster.\n\n{table(rows)}"
    )
    report(args.out, "An iteration of evolution strategies, against evosax", text, ["torch", "evosax", "jax"])


if __name__ == "__main__":
    main()
