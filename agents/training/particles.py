"""What SVPG and IP-WGF share: policies as particles, their target, and what is said of them."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from wgf.agents.training.descent import Adam
from wgf.agents.training.onpolicy import Nets, Settings, State, begin, networks, segments
from wgf.agents.training.rollout import Rollout
from wgf.agents.training.schedule import Schedule
from wgf.agents.training.targets import mean_square
from wgf.kernels import KERNELS, Kernel, KernelName
from wgf.shards import Shards
from wgf.transport import exact_cost

__all__ = ["ParticleSettings", "init", "kernel", "memory", "of_all", "rows", "score", "seen"]


@dataclass(frozen=True)
class ParticleSettings(Settings):
    """Policies that sample exp(J / alpha) p0; the defaults are those of Zhang et al. 2018, Table 4, and of the public SVPG code."""

    particles: int = 16
    """Policies per seed. With their critics they take some 20 floats per parameter, 28 while they are saved: 256 of 1e5 need 2.7 GiB."""
    alpha: float = 10.0
    """Temperature of exp(J / alpha), for standardised advantages: the paper's grid is 6 to 11."""
    anneal: int = 0
    """Updates over which the temperature falls linearly to a hundredth; 0 keeps it."""
    prior: float = 0.0
    """Variance of a Gaussian prior on the parameters; 0 is a flat prior, as in the public SVPG code."""
    bandwidth: KernelName = "svpg"
    """Median rule of the kernel."""


def memory(cfg: ParticleSettings, schedule: Schedule) -> Rollout:
    """They learn from segments."""
    return segments(cfg, cfg.particles)


def init(
    cfg: ParticleSettings,
    obs: int,
    action: int,
    generators: Sequence[torch.Generator],
    device: torch.device,
    nets: Nets | None = None,
) -> State:
    """Makes a fresh state of len(generators) seeds."""
    return begin(cfg, cfg.particles, nets or networks(cfg, obs, action), generators, device)


def score(cfg: ParticleSettings, x: Tensor, gradient: Tensor, adam: Adam) -> Tensor:
    """Returns grad log of exp(J / alpha) p0: grad J / alpha - x / prior variance, (S, M, d).

    **Source** Zhang et al. 2018, Sec. 4.1, whose Eq. 12 and Prop. 5 set alpha to 1 and p0 to a flat prior. alpha falls by ``anneal``.
    """
    fallen = (1.0 - adam.steps / cfg.anneal).clamp_min(0.01) if cfg.anneal else 1.0
    found = gradient / (cfg.alpha * fallen)
    return found - x / cfg.prior if cfg.prior else found


def kernel(cfg: ParticleSettings, x: Tensor) -> Kernel:
    """Returns the kernel of SVGD, by its median rule."""
    return KERNELS[cfg.bandwidth](x)


def rows(adam: Adam, shards: Shards) -> Adam:
    """Returns what moves this rank's rows as ``adam``, whose theta has all, would move them."""
    found = Adam(shards.mine(adam.theta).clone(), adam.lr, adam.fall)
    found.m.copy_(shards.mine(adam.m))
    found.v.copy_(shards.mine(adam.v))
    found.steps.copy_(adam.steps)
    return found


def of_all(shards: Shards, means: Mapping[str, Tensor], x: Tensor, after: Tensor) -> tuple[dict[str, Tensor], Tensor, Tensor]:
    """Returns means over the particles of all ranks, (S,), from those over this rank's, and the whole clouds of two (S, m, d); one
    collective."""
    if shards.group.size == 1:
        return dict(means), x, after
    each = torch.stack([*means.values()], -1)[:, None].expand(-1, x.shape[1], -1)
    whole = shards.gather(torch.cat([x, after, each], -1))
    x, after, each = torch.split(whole, [x.shape[-1], after.shape[-1], len(means)], -1)
    return dict(zip(means, each.mean(1).unbind(-1), strict=True)), x, after


def seen(x: Tensor, after: Tensor) -> dict[str, Tensor]:
    """Returns, of particles that went from x to ``after`` (S, M, d): deviation from their mean, W2 moved."""
    return {
        "flow/spread": mean_square(after - after.mean(1, keepdim=True)).sqrt(),
        "flow/w2_moved": exact_cost(after, x).sqrt(),
    }
