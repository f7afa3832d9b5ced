"""What each rank of tests/wgf/test_shards.py runs: velocities and flows of shared particles, which rank 0 writes beside collectives."""

import sys
from functools import partial

import torch

from wgf import flow, kernels, ranks, svgd, transport
from wgf.bnn.fit import fit
from wgf.bnn.settings import Settings
from wgf.shards import Shards

M, N = 37, 11  # particles and networks: no number of ranks divides them
BLOCK = kernels.BLOCK
UNEVEN = {2: (30, 7), 3: (1, 20, 16)}
FITS = {"svgd": {}, "wgf": {"w2": "exact"}, "eq9": {"flow": "wgf", "w2": "eq9_sum"}, "blob": {}, "langevin": {}, "ensemble": {}}
QUICK = {"particles": N, "iterations": 40, "hidden": (5,), "batch": 16, "inner_steps": 3}


def clouds(*shape):
    """x, a score, x_prev."""
    g = torch.Generator().manual_seed(0)
    x, noise, shift = (torch.randn(*shape, generator=g, dtype=torch.float64) for _ in range(3))
    return x, noise - x, x + 0.3 * shift


def foreign(x, score):
    """A velocity that knows nothing of shards: its rows depend on all particles, and it computes them all."""
    return score - x.mean(-2, keepdim=True) * (x @ x.mT).logsumexp(-1, keepdim=True)


def divergence(x, x_prev):
    """A W2 velocity by autograd: its costs have to be whole on every rank."""
    leaf = x.detach().requires_grad_()
    with torch.enable_grad():
        return -torch.autograd.grad(transport.sinkhorn_divergence(leaf, x_prev, eps=0.5).sum(), leaf)[0]


def velocities(x_prev):
    """(particles, score) -> velocity, by name."""
    found = {f.__name__: f for f in (svgd.velocity, svgd.unbiased, svgd.blob, svgd.gfsd, foreign)}
    for kernel in (kernels.RBF(0.8), kernels.IMQ(1.3)):
        for f in (svgd.velocity, svgd.unbiased, svgd.blob, svgd.gfsd):
            found[f"{f.__name__} {type(kernel).__name__}"] = partial(f, kernel=kernel)
    for name, w2 in (*transport.VELOCITIES.items(), ("divergence", divergence)):
        found[name] = lambda x, score, w2=w2: w2(x, x_prev)
        found[f"with {name}"] = partial(flow.velocity, x_prev=x_prev, scale=0.5, kl=svgd.velocity, w2=w2)
    return found


def computed(shards, block=BLOCK):
    """Everything by name: (result of all ranks, collectives that it took); ``block``: entries of a block of rows."""
    count, real = [0], ranks._all_gather

    def counted(*args):
        count[0] += 1
        return real(*args)

    ranks._all_gather = counted
    found = {}

    def note(name, rows):
        count[0] = 0
        mine = rows()
        taken = count[0]
        found[name] = shards.gather(mine), taken

    for shape, kernels.SUBSAMPLE in (((M, 2), 2048), ((M, 9), 2048), ((2, M, 5), 2048), ((M, 9), 16)):
        kernels.BLOCK = block if kernels.SUBSAMPLE == 2048 else BLOCK
        x, score, x_prev = clouds(*shape)
        for name, f in velocities(x_prev).items():
            note(f"{name} {shape} {kernels.SUBSAMPLE}", lambda f=f, x=x, s=score: shards.velocity(f, shards.mine(x), shards.mine(s)))
    for name, parts in {"the default": {}, "svgd": {"kl": svgd.velocity, "w2": transport.exact}}.items():
        note(f"a flow, {name}", partial(flowed, shards, parts))
    ranks._all_gather, kernels.SUBSAMPLE, kernels.BLOCK = real, 2048, BLOCK
    return found


def flowed(shards, parts):
    """This rank's rows after three JKO iterates of four inner steps."""
    jko = flow.jko(lambda x: 1.0 - x, h=0.5, lr=0.1, inner_steps=4, **parts, shards=shards)
    state = jko.init(shards.mine(clouds(M, 3)[0]))
    for _ in range(3):
        state = jko.step(state)
    return state.x


def fits(shards):
    """The particles of fits of every flow that is sharded."""
    g = torch.Generator().manual_seed(0)
    x = torch.randn(2, 60, 2, generator=g, dtype=torch.float64)
    y = x[..., :1] - x[..., 1:].square()
    return {name: fit(Settings(**{"flow": name} | QUICK | given), x, y, [0, 1], shards=shards).particles for name, given in FITS.items()}


def main():
    """Writes what all ranks found together to the file that is named."""
    torch.set_num_threads(1)
    group = ranks.joined(torch.device("cpu"))
    shards, small = Shards.owning(group, UNEVEN[group.size][group.rank]), 5 * M  # rows go in other blocks than on one process
    found = computed(shards, small) | {"fits": fits(Shards.even(group, N))}
    told = Shards.even(group, M).counts, Shards.owning(group, group.rank + 1).rows.start, group.either(group.rank == 1, False)
    if group.rank == 0:
        torch.save({**found, "told": told}, sys.argv[1])


if __name__ == "__main__":
    main()
