"""EnvPool's C++ environments (its own MuJoCo inside): faster steps, other random streams than Gymnasium's."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from wgf.agents.training.spaces import Array, BrokenEnvironment, Scale, Step, cast, near, quiet, sizes, stepped, vector
from wgf.snapshot import Snapshot

__all__ = ["EnvPool"]

NO_WAY_BACK = "environments of backend envpool do not come back to where they were; use backend gymnasium (--backend gymnasium)"


class EnvPool:
    """``n`` environments by EnvPool's name, side by side. Raises as ``envs.make`` does.

    Their simulators and generators cannot be reached from here: they do not come back to where they were.
    """

    continues = False

    def __init__(self, name: str, n: int) -> None:
        self.name, self.n = name, n
        with quiet():
            spec = self._spec(name)
            self.space, action, self.horizon = spec.observation_space, spec.action_space, spec.config.max_episode_steps
        self.obs_size, self.action_size = sizes(name, self.space, action)
        self.scale = Scale(action)
        self.faults: dict[int, BrokenEnvironment] = {}  # none: its environments are the package's own
        self._envs: Any = None

    @staticmethod
    def _spec(name: str) -> Any:
        try:
            import envpool
        except ImportError:
            raise ValueError("backend 'envpool' needs the package envpool: pip install envpool, or use --backend gymnasium") from None
        known = envpool.list_all_envs()
        if name not in known:
            raise ValueError(f"environment {name!r} is not one of EnvPool's{near(name, known)}; or use --backend gymnasium")
        return envpool.make_spec(name)

    def reset(self, seeds: Sequence[int | None]) -> Array:
        """Returns the first observations (N, D); environment i is seeded with seeds[i].

        EnvPool seeds at birth only: the environments are new. All go together: one whose seed is None is played in vain.
        """
        import envpool

        with quiet():
            self._envs = envpool.make(self.name, env_type="gymnasium", num_envs=self.n, seed=[int(s or 0) for s in seeds])
            return cast(vector(self.space, self._envs.reset()[0]))

    def step(self, action: Array) -> Step:
        """Applies actions (N, A) in (-1, 1). EnvPool would reset one step late: ended environments are reset here at once."""
        after, reward, terminated, truncated, _ = self._envs.step(self.scale(action))
        next_obs = vector(self.space, after)
        obs, ended = next_obs, np.flatnonzero(terminated | truncated).astype(np.int32)
        if len(ended):
            first, info = self._envs.reset(ended)
            obs = next_obs.copy()
            obs[info["env_id"]] = vector(self.space, first)
        return stepped(obs, next_obs, reward, terminated, truncated)

    def snapshot(self) -> Snapshot:
        """Raises ValueError: there is no way back."""
        raise ValueError(NO_WAY_BACK)

    def restore(self, snapshot: Snapshot) -> Array:
        """Raises ValueError: there is no way back."""
        raise ValueError(NO_WAY_BACK)

    def close(self) -> None:
        """Frees the simulators."""
        self._envs = None
