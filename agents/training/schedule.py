"""How long a training is, how often it looks up, and what it normalises. Free of torch, so that a command line can show it at once."""

from dataclasses import dataclass, fields
from math import inf
from typing import Literal

__all__ = ["Schedule"]


@dataclass(frozen=True)
class Schedule:
    """How long and how often, in environment steps of one seed."""

    steps: int = 100_000
    """Environment steps per seed."""
    warmup: int = 1_000
    """Steps of uniform actions before the first update."""
    replay: int = 1_000_000
    """Rows of the replay per seed, at least 4, shared out among its environments (Table 6 of Zhang et al. 2018: 1e6)."""
    log_every: int = 500
    """Steps between two looks at the losses."""
    eval_every: int = 5_000
    """Steps between two evaluations, at which the policy is saved."""
    checkpoint_every: int = 0
    """Steps between two checkpoints, from which a run that was stopped or killed goes on as if it had not been. 0: at evaluations, but
    seldom enough to take less than a fortieth of the time."""
    eval_episodes: int = 5
    """Episodes per evaluation and seed."""
    step_limit: float = 0.0
    """Seconds that a step or a reset of an environment may take; where one takes longer, its seed ends as failed. 0: no limit."""
    normalize: Literal["none", "observations", "rewards", "both"] = "none"
    """What the agent sees in units of its running deviation, kept with the policy; evaluations leave it as it is."""

    def __post_init__(self) -> None:
        least = {"warmup": 0, "replay": 4, "checkpoint_every": 0}
        for name in (f.name for f in fields(self) if f.type is int):
            value = getattr(self, name)
            if value < least.get(name, 1):
                raise ValueError(f"{name} is {value}; it must be at least {least.get(name, 1)}")
        if not 0.0 <= self.step_limit < inf:
            raise ValueError(f"step_limit is {self.step_limit}; it must be a number of seconds, at least 0")

    def rows(self, envs: int = 1) -> int:
        """Rows that this training can fill in each of ``envs`` rings of a seed: at most two per step, where every step ends an episode."""
        steps, share = -(-self.steps // envs), -(-self.replay // envs)
        return max(4, min(share, 2 * steps + 2))
