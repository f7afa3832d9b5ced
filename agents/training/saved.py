"""The policies in a folder, of which an agent is made again: nothing is believed before it is checked, no name in a file is imported."""

from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import fields
from pathlib import Path
from typing import Any, NamedTuple

from torch import Tensor

from wgf.agents import registry
from wgf.agents.training import checkpoint, weight
from wgf.agents.training.description import Description
from wgf.agents.training.folder import difference, identity, seed_folder
from wgf.agents.training.ranges import whole
from wgf.shown import shown

__all__ = ["Policies", "read"]

LONGEST = 255  # letters of a name
SAVED = {"agent": str, "preset": str, "config": dict, "schedule": dict, "env": str, "backend": str} | dict.fromkeys(
    ("seed", "step", "obs_size", "action_size"), int
)


class Policies(NamedTuple):
    """The saved policies of some seeds: the folder of the first, and what each says about itself, and its tensors."""

    first: Path
    about: list[dict[str, Any]]
    slices: list[dict[str, Tensor]]

    @property
    def step(self) -> int:
        """Returns the step of the seed that is furthest."""
        return max(int(about["step"]) for about in self.about)

    def arguments(self, env: Any, agent: Any, nets: Mapping[str, Any]) -> dict[str, Any]:
        """Returns the arguments of a ``Description``, with what a person or a program gave in the places of names.

        **Raises** ValueError for a name that is missing, has a module, or must be given again.
        """
        for about in self.about:
            for field, kind in SAVED.items():
                if not isinstance(about.get(field), kind) or (kind is str and len(about[field]) > LONGEST):
                    raise ValueError(f"{field} is {shown(about.get(field))}")
        about = self.about[0]
        if env is None and about.get("own"):
            raise ValueError(f"it was trained on an environment that a program gave, {about['env']!r}: load it with env=")
        env = registry.named("env", about["env"]) if env is None else env
        agent = registry.named("agent", about["agent"]) if agent is None else agent
        if sorted(nets) != about.get("nets", []):
            raise ValueError(
                f"its networks of its own are {shown(about.get('nets', []))}, and {sorted(nets)} are given: load it with nets="
            )
        schedule = {k: v for k, v in about["schedule"].items() if k != "steps"}
        settings = {k: tuple(v) if isinstance(v, list) else v for k, v in {**about["config"], **schedule}.items()}
        same = {name: about[name] for name in ("preset", "backend")}
        return {"agent": agent, "env": env, "seeds": [other["seed"] for other in self.about], "nets": nets, "settings": settings, **same}

    def check(self, found: Description) -> None:
        """Raises ValueError where seeds were trained with different settings, where the environment has other sizes than in training,
        where the preset has had a value since that its policies were not trained with, or where an agent too large to be made has
        other tensors."""
        about = self.about[0]
        for other in self.about[1:]:
            if change := difference(identity(about), identity(other)):
                words = f"seeds of different trainings: {other['seed']} has {change} as {about['seed']} has"
                raise ValueError(f"{self.first.parent} holds {words}; name those of one, as in seeds=[{about['seed']}]")
        since = [f for f in fields(found.cfg) if f.name not in about["config"] and getattr(found.cfg, f.name) != f.default]
        if since:
            raise ValueError(
                f"{self.first / 'policy.json'} is of an earlier version: since then preset {about['preset']!r} has "
                f"{since[0].name} {shown(getattr(found.cfg, since[0].name))}, which its policies were not trained with; train again"
            )
        if (found.obs_size, found.action_size) != (about["obs_size"], about["action_size"]):
            raise ValueError(
                f"{self.first} was trained on {about['obs_size']} observation and {about['action_size']} action numbers; "
                f"{about['env']!r} has {found.obs_size} and {found.action_size} here: install the versions that its policy.json names"
            )
        if not found.nets and not weight.modest(found.cfg, found.usual, found.obs_size, len(found.seeds), found.device):
            with self.doubted():
                checkpoint.compare(weight.shapes(found.module, found.cfg, found.obs_size, found.action_size), self.slices)

    def doubted(self) -> AbstractContextManager[None]:
        """Makes of an error a ValueError of one line that names policy.json."""
        return checkpoint.doubted(f"{self.first / 'policy.json'} does not describe an agent of this version")


def read(folder: Path, seeds: Sequence[int] = ()) -> Policies:
    """Reads the policy of a folder, or those of the seeds in it, or of some. Raises ValueError, in one line, where one is not whole."""
    if isinstance(seeds, (str, bytes)) or not isinstance(seeds, Sequence) or not all(map(whole, seeds)):
        raise ValueError(f"seeds is {shown(seeds)}; it must be a sequence of whole numbers")
    there = sorted({int(p.parent.name[5:]) for p in folder.glob("seed-*/policy*") if p.parent.name[5:].isdecimal()})
    places = [seed_folder(folder, seed) for seed in seeds or there] or [folder]  # one whose policy.json is gone is not passed over
    saved = [checkpoint.load(place) for place in places]
    return Policies(places[0], [about for about, _ in saved], [tensors for _, tensors in saved])
