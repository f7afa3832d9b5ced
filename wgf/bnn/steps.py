"""The steps of a fit: particles that move on standardised data, and that can be put down between two steps and taken up again."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from itertools import islice
from typing import Any

import torch
from torch import Tensor

from wgf.bnn import flows, mixture
from wgf.bnn.compiled import compiled
from wgf.bnn.settings import Settings
from wgf.door import trusted
from wgf.shards import ALONE, Shards
from wgf.shown import shown
from wgf.snapshot import Snapshot, put_, set_states, states

__all__ = ["Steps"]


class Steps:
    """Particles (S, M, P), of the flow smi components (S, M, 2P), on data x (S, n, d), y (S, n, K) with rows' weights (S, n), step sizes
    lr (S,), and how many steps they took.

    Those of data set s begin by the draws of ``draws[s]`` alone. ``snapshot`` has all that the next step depends on beside these
    arguments: particles that are restored from it go on bit by bit. With ``shards`` these are this rank's of the M particles, which
    begin and draw as they do on one process; a snapshot has the particles of all ranks.
    """

    def __init__(
        self,
        settings: Settings,
        x: Tensor,
        y: Tensor,
        weights: Tensor,
        lr: Tensor,
        draws: Sequence[torch.Generator],
        compile: bool,
        shards: Shards = ALONE,
    ) -> None:
        dropout, self._settings = settings.flow == "dropout", settings
        model = replace(settings, draws=1, particles=1 if dropout else settings.particles).model(x.shape[-1], y.shape[-1])
        first, self.step = model.init(x, y, draws), 0
        if settings.flow == "smi":
            first = mixture.init(first)
        self._shards, self._shape = shards, first.shape
        self.particles = self._mine(first)
        self._drawn = settings.particles, settings.draws, model.numbers
        self._before, self._optimiser = self._origin(first), flows.RMSProp()
        self._noise = [torch.Generator(x.device).manual_seed(int(torch.randint(2**62, (), generator=g))) for g in draws]
        if dropout:
            model = replace(model, net=replace(model.net, phi=flows.thinning(settings.dropout, self._noise)))
        about = settings.flow, model, x.shape[1], settings.w2 if settings.flow == "wgf" else None, settings.w2_scale
        self._drive = compiled(*about) if compile and not dropout else flows.drive(*about, shards)
        self._data, self._lr = (x, y, weights), lr[:, None, None]
        self._rows = flows.minibatches(x.shape[1], settings.batch)

    def take(self) -> None:
        """Takes one step."""
        settings, rows = self._settings, next(self._rows)
        if settings.flow == "wgf" and self.step % settings.inner_steps == 0:
            self._before = self._shards.gather(self.particles.clone())
        xi = [flows.normal(self._drawn, self._noise)] if settings.flow == "smi" else []
        with trusted():
            v = self._drive(self.particles, self._before, *(part[:, rows] for part in self._data), *xi)
        root = self._optimiser.root(v)
        rate = self._lr * (1.0 - self.step / settings.iterations if settings.anneal else 1.0)
        self.particles.addcmul_(v / root, rate)
        if settings.flow == "langevin":
            noise = flows.normal((self._settings.particles, *v.shape[2:]), self._noise)
            self.particles.addcmul_(self._shards.mine(noise), (2.0 * rate / root).sqrt())
        self.step += 1

    def snapshot(self) -> Snapshot:
        """Returns where they are, after one step at least: the tensors themselves, not copies; those of all ranks, gathered."""
        assert self._optimiser.history is not None
        particles, history = map(self._shards.gather, (self.particles, self._optimiser.history))
        before = self._before if self._settings.flow == "wgf" else self._shards.gather(self._before)
        return {"step": self.step, "particles": particles, "before": before, "history": history, "noise": states(self._noise)}

    def restore(self, found: Mapping[str, Any]) -> None:
        """Brings particles that took no step yet to where others were. Raises ValueError for a snapshot of none such."""
        step = found.get("step")
        if type(step) is not int or not 1 <= step <= self._settings.iterations:
            raise ValueError(f"step is {shown(step)}; it must be from 1 to {self._settings.iterations}")
        whole = {name: self.particles.new_empty(self._shape) for name in ("particles", "before", "history")}
        for name, tensor in whole.items():
            put_(tensor, found.get(name), name)
        set_states(self._noise, found.get("noise"))
        self.particles, self._before = self._mine(whole["particles"]), self._origin(whole["before"])
        self._optimiser.history = self._mine(whole["history"])
        self.step, self._rows = step, islice(self._rows, step, None)

    def _mine(self, whole: Tensor) -> Tensor:
        """This rank's rows, which change from step to step."""
        return self._shards.mine(whole).clone()

    def _origin(self, whole: Tensor) -> Tensor:
        """What the W2 velocity measures from: all particles. Flows without one hold theirs alone."""
        return whole if self._settings.flow == "wgf" else self._mine(whole)
