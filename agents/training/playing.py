"""Steps of environments one after another: a policy acts, they step, and a memory takes note; as machine code several steps at once."""

from collections.abc import Callable, Iterator
from dataclasses import fields, replace
from typing import Any

import torch
from torch import Tensor

from wgf.agents.tasks.fleet import Fleet, Outcome, stepped
from wgf.agents.tasks.task import Task
from wgf.agents.training.compiled import Recorder, held
from wgf.agents.training.envs import Envs
from wgf.agents.training.protocol import Act, Actor
from wgf.compiler import settled

__all__ = ["Play"]

MOST = 5  # steps in one piece: more take as long each, and longer to compile
# (what a memory counts, observations that were acted on, actions, what came of them) -> what is to be kept; it changes the counts in place
Note = Callable[[Any, Tensor, Tensor, Outcome], tuple[Tensor, ...]]


class Play:
    """Plays environments; where they are a compiled ``Fleet``, steps from observation to note are one piece of machine code."""

    def __init__(self, envs: Envs, note: Note) -> None:
        self.envs, self.note, self._recorder, self._laid = envs, note, Recorder(), dict[str, Tensor]()

    def __call__(self, act: Act, obs: Tensor, counts: Any, steps: int) -> Iterator[tuple[Tensor, tuple[Tensor, ...]]]:
        """Yields the observations (S, n, D) to act on next and what the last k steps left to keep, (S, k, n, ...); k divides ``steps``.

        ``counts``: a dataclass of tensors.
        """
        if isinstance(self.envs, Fleet) and self.envs.compile and isinstance(act, Actor):
            yield from self._several(self.envs, act, obs, counts, steps)
            return
        for _ in range(steps):
            action = act(obs)
            outcome = self.envs.step(action)
            kept = self.note(counts, obs, action, outcome)
            obs = outcome.obs
            yield obs, tuple(t[:, None] for t in kept)

    def _several(self, fleet: Fleet, act: Actor, obs: Tensor, counts: Any, steps: int) -> Iterator[tuple[Tensor, tuple[Tensor, ...]]]:
        """As ``__call__``. The tensors of the agent's state and of the counts stay the same from step to step, and are looked for once."""
        k, state = max(k for k in range(1, MOST + 1) if steps % k == 0), self._beside(act.state, fleet.n)
        code, lasting = None, held((state, counts))
        for i in range(steps // k):
            passing = (obs.contiguous(), fleet.state.contiguous(), fleet.age), tuple(act.noise(fleet.n) for _ in range(k)), fleet.starts(k)
            args = fleet.task, act.act, state, counts, *passing
            code = code if i else self._recorder.code(self._played, *args)
            obs, fleet.state, fleet.age, *kept = self._played(*args) if code is None else code(*lasting, *held(passing))
            yield obs, tuple(kept)

    def _played(
        self,
        task: Task,
        act: Callable[[Any, Tensor, Any], Tensor],
        state: Any,
        counts: Any,
        now: tuple[Tensor, Tensor, Tensor],
        noise: tuple[Any, ...],
        fresh: Tensor,
    ) -> tuple[Tensor, ...]:
        """Returns observations, states and ages after some steps, and what there is to keep of them."""
        (obs, at, age), columns = now, []
        for xi, start in zip(noise, fresh.unbind(), strict=True):
            action = act(state, settled(obs.mT.contiguous()).mT, xi)  # of all environments the same number side by side
            at, age, *outcome = stepped(task, at, age, action, start)
            columns.append(self.note(counts, obs, action, Outcome(*outcome)))
            obs = outcome[0]
        return obs, at, age, *(torch.stack(column, 1) for column in zip(*columns, strict=True))

    def _beside(self, state: Any, n: int) -> Any:
        """Returns a state whose tensors (S, n, P), a policy for each environment, have the same weight of each side by side in memory.

        Of several ranks each has the policies of all, and plays some.
        """
        for field in fields(state):
            t = getattr(state, field.name)
            if isinstance(t, Tensor) and t.ndim == 3 and t.shape[1] >= n > 1:
                self._laid.setdefault(field.name, torch.empty_like(t.mT, memory_format=torch.contiguous_format).mT).copy_(t)
        return replace(state, **self._laid)
