"""A critic of one's own: SAC with a residual network, a plain torch module, in the place of its Q network.

Run it: python examples/own_critic.py
"""

from pathlib import Path

import torch
from torch import Tensor, nn

from wgf.agents import Agent


class Residual(nn.Module):
    """Observation and action side by side (n, D + A) -> Q (n, 1), by a layer and two blocks x + W2 relu(W1 LayerNorm(x))."""

    def __init__(self, inputs: int, width: int = 32, blocks: int = 2) -> None:
        super().__init__()
        self.first, self.last = nn.Linear(inputs, width), nn.Linear(width, 1)
        self.blocks = nn.ModuleList(
            nn.Sequential(nn.LayerNorm(width), nn.Linear(width, width), nn.ReLU(), nn.Linear(width, width)) for _ in range(blocks)
        )

    def forward(self, x: Tensor) -> Tensor:
        """Q, one number per row."""
        x = self.first(x)
        for block in self.blocks:
            x = x + block(x)
        q: Tensor = self.last(torch.relu(x))
        return q


def critic() -> Residual:
    """For the cart-pole: 4 numbers of an observation and 1 of an action."""
    return Residual(4 + 1)


def main(folder: Path) -> tuple[Agent, Agent]:
    """Trains two seeds, each with two such critics, saves them, and loads them: what is saved are numbers, the network is given again."""
    agent = Agent("sac", "wgf/CartPole-v0", seeds=2, preset="modern", hidden=(64, 64), batch=64, nets={"q": critic()})
    agent.learn(2_000).save(folder)
    loaded = Agent.load(folder, nets={"q": critic()})
    print(f"mean returns of the two seeds: {loaded.evaluate(10).returns.mean(1).round()}")
    return agent, loaded


if __name__ == "__main__":
    main(Path("runs/own_critic"))
