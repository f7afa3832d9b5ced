"""What an update of SAC on the strong critic costs beside the same formulas as a user of PyTorch writes them, both as machine code.

    python tests/bench/strong.py --out runs/results/speed/strong.md

Beside it: torch's modules, one seed, a module per critic, losses under torch.compile, torch's fused Adam. Both have two minibatches of Q
and one of the policy per update, the sizes of strong-small, and the same number of observations and actions. In turns, one thread.
"""

import argparse
import math
from collections.abc import Callable, Iterable
from copy import deepcopy
from dataclasses import dataclass
from pathlib import Path

import torch
from timing import report, table
from torch import Tensor, nn
from torch.distributions import Normal
from torch.nn.functional import log_softmax, softplus
from updates import ACTION, OBS, row, timed, update

from wgf.agents.registry import find

CFG = find("sac", "strong-small")[1]
SUPPORT = torch.linspace(-CFG.bound, CFG.bound, CFG.atoms)


class Block(nn.Module):
    """x + relu(BN(W2 relu(BN(W1 x))))."""

    def __init__(self, width: int) -> None:
        super().__init__()
        wide = CFG.expansion * width
        self.up, self.down = nn.Linear(width, wide, bias=False), nn.Linear(wide, width, bias=False)
        self.norms = nn.ModuleList(nn.BatchNorm1d(n, momentum=0.01) for n in (wide, width))

    def forward(self, x: Tensor) -> Tensor:
        """Rows to rows."""
        return x + self.norms[1](self.down(self.norms[0](self.up(x)).relu())).relu()


class Residual(nn.Module):
    """Batch norm, a layer, blocks, RMS norm, a layer."""

    def __init__(self, inputs: int, hidden: tuple[int, ...], out: int) -> None:
        super().__init__()
        width = hidden[0]
        self.before, self.first = nn.BatchNorm1d(inputs, momentum=0.01), nn.Linear(inputs, width, bias=False)
        self.blocks = nn.Sequential(*(Block(width) for _ in hidden))
        self.norm, self.last = nn.RMSNorm(width, eps=1e-5), nn.Linear(width, out)

    def forward(self, x: Tensor) -> Tensor:
        """Rows to rows."""
        return self.last(self.norm(self.blocks(self.first(self.before(x)))))


@torch.no_grad()
def settle(nets: Iterable[nn.Module]) -> None:
    """Scales rows of matrices to length 1, and gain and offset of a norm together to sqrt(units)."""
    for net in nets:
        for part in net.modules():
            if isinstance(part, nn.Linear):
                part.weight.div_(part.weight.norm(dim=1, keepdim=True))
            elif isinstance(part, nn.BatchNorm1d | nn.RMSNorm):
                size = part.weight.numel()
                scale = (sum(p.square().sum() for p in part.parameters()) / size).rsqrt()
                for p in part.parameters():
                    p.mul_(scale)


@torch.no_grad()
def follow(targets: nn.Module, nets: nn.Module) -> None:
    """Moves targets towards networks, with what batch norm remembers."""
    for old, new in zip(targets.state_dict().values(), nets.state_dict().values(), strict=True):
        if old.is_floating_point():
            old.lerp_(new, CFG.tau)


def value(out: Tensor) -> Tensor:
    """The mean of a law."""
    return out.softmax(-1) @ SUPPORT


def project(at: Tensor, mass: Tensor) -> Tensor:
    """Masses at points, on the atoms beside each."""
    place = (at.clamp(-CFG.bound, CFG.bound) + CFG.bound) * ((CFG.atoms - 1) / (2.0 * CFG.bound))
    low = place.floor().clamp_max(CFG.atoms - 2.0)
    up, k = (place - low) * mass, low.long()
    return torch.zeros_like(mass).scatter_add(-1, k, mass - up).scatter_add(-1, k + 1, up)


def act(policy: nn.Module, obs: Tensor, xi: Tensor) -> tuple[Tensor, Tensor]:
    """An action per row, and its log density."""
    mean, raw = policy(obs).chunk(2, -1)
    std = (raw + math.log(CFG.start_std)).clamp(-20.0, 2.0).exp()
    u = mean + std * xi
    jacobian = 2.0 * (math.log(2.0) - u - softplus(-2.0 * u))
    return torch.tanh(u), (Normal(mean, std, validate_args=False).log_prob(u) - jacobian).sum(-1)


@dataclass
class Part:
    """A minibatch: of states, actions, rewards, discounts, next states, and noise."""

    obs: Tensor
    action: Tensor
    reward: Tensor
    discount: Tensor
    after: Tensor
    xi: Tensor


class Plain:
    """The update."""

    def __init__(self) -> None:
        self.policy = Residual(OBS, CFG.policy_hidden, 2 * ACTION)
        self.qs = nn.ModuleList(Residual(OBS + ACTION, CFG.hidden, CFG.atoms) for _ in range(CFG.members))
        self.targets = deepcopy(self.qs).requires_grad_(False)
        self.log_alpha = torch.tensor(math.log(CFG.alpha0), requires_grad=True)
        parameters = list(self.policy.parameters()), list(self.qs.parameters()), [self.log_alpha]
        self.adams = [torch.optim.Adam(each, lr=CFG.lr, fused=True) for each in parameters]
        settle([self.policy, *self.qs])
        self.targets.train()
        self.critic, self.actor = torch.compile(self.critic_loss), torch.compile(self.actor_loss)
        # one function for both fails in torch 2.13's compiler
        self.settle, self.follow = torch.compile(lambda: settle(self.qs)), torch.compile(lambda: follow(self.targets, self.qs))

    def critic_loss(self, part: Part) -> Tensor:
        """Cross-entropy beside the law of the member with the lesser mean."""
        with torch.no_grad():
            action, log_prob = act(self.policy, part.after, part.xi)
            x = torch.cat([torch.cat([part.obs, part.action], -1), torch.cat([part.after, action], -1)])
            laws = torch.stack([target(x)[CFG.batch :] for target in self.targets])
            least = value(laws).argmin(0)
            law = laws[least, torch.arange(CFG.batch)].softmax(-1)
            at = part.reward[:, None] + part.discount[:, None] * (SUPPORT - self.log_alpha.exp() * log_prob[:, None])
            goal = project(at, law)
        return sum(-(goal * log_softmax(q(x)[: CFG.batch], -1)).sum(-1).mean() for q in self.qs)

    def actor_loss(self, part: Part) -> Tensor:
        """alpha log pi - min Q, and log alpha (entropy - aim), which have no parameter in common."""
        action, log_prob = act(self.policy, part.obs, part.xi)
        least = torch.stack([value(q(torch.cat([part.obs, action], -1))) for q in self.qs]).amin(0)
        aim = 0.5 * ACTION * math.log(2.0 * math.pi * math.e * CFG.entropy_std**2)
        loss = (self.log_alpha.exp().detach() * log_prob - least).mean()
        return loss + self.log_alpha * (-log_prob.mean().detach() - aim)

    def step(self, loss: Tensor, *which: int) -> None:
        """One step of Adam for each group of parameters."""
        for k in which:
            self.adams[k].zero_grad()
        loss.backward()
        for k in which:
            self.adams[k].step()

    def update(self, parts: list[Part]) -> None:
        """Two minibatches of Q, the last of the policy."""
        self.policy.eval(), self.qs.train()
        for part in parts:
            self.step(self.critic(part), 1)
            self.settle(), self.follow()
        self.policy.train(), self.qs.eval()
        self.step(self.actor(parts[-1]), 0, 2)
        settle([self.policy])


def plain() -> Callable[[], object]:
    """The update on drawn minibatches."""
    agent, g = Plain(), torch.Generator().manual_seed(0)

    def part() -> Part:
        obs, action, after, xi = (torch.randn(CFG.batch, n, generator=g) for n in (OBS, ACTION, OBS, ACTION))
        return Part(obs, action.tanh(), torch.randn(CFG.batch, generator=g), torch.full((CFG.batch,), CFG.gamma), after, xi)

    parts = [part() for _ in range(CFG.policy_delay)]
    return lambda: agent.update(parts)


def main() -> None:
    """Measures and reports."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--out", type=Path)
    args = parser.parse_args()
    cases = {"plain PyTorch, torch.compile": plain(), "sac": update("sac", "strong-small", compile=True)}
    times = timed(cases, 1, args.rounds)
    text = "Medians of the rounds; ratios: median over rounds [middle half].\n\n" + table([row(times, name, "sac") for name in cases])
    report(args.out, "SAC on the strong critic beside plain PyTorch", text, ["wgflow", "torch"])


if __name__ == "__main__":
    main()
