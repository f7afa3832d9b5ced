"""Plays episodes with a saved policy: tells their returns, and films one of them."""

import os
from contextlib import closing
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch

from wgf.agents import registry
from wgf.agents.training import checkpoint, envs
from wgf.agents.training.evaluate import LONGEST, Policy, deterministic, evaluate, starts
from wgf.agents.training.loop import policies
from wgf.agents.training.protocol import Agent
from wgf.agents.training.ranges import check

CPU = torch.device("cpu")
ABOUT = {"agent": str, "preset": str, "config": dict, "env": str, "backend": str} | dict.fromkeys(
    ("seed", "step", "obs_size", "action_size"), int
)


class Saved(NamedTuple):
    """A saved policy: what its file says about it, its agent, configuration and state."""

    about: dict[str, Any]
    agent: Agent
    cfg: Any
    state: Any


def load(run: Path) -> Saved:
    """Loads the policy of a run folder. Raises ValueError, in one line, for a folder without one."""
    about, tensors = checkpoint.load(run)
    try:
        for field, kind in ABOUT.items():
            if not isinstance(about.get(field), kind):
                raise ValueError(f"{field} is {about.get(field)!r}")
        agent, preset = registry.find(about["agent"], about["preset"])
        cfg = type(preset)(**{k: tuple(v) if isinstance(v, list) else v for k, v in about["config"].items()})
        check(cfg)
        state = agent.init(cfg, about["obs_size"], about["action_size"], [torch.Generator().manual_seed(0)], CPU)
        checkpoint.restore_(state, [tensors])
    except (AttributeError, KeyError, TypeError, RuntimeError, ValueError) as error:
        raise ValueError(f"{run / 'policy.json'} does not describe an agent of this version: {error}") from None
    return Saved(about, agent, cfg, state)


def show(run: Path, episodes: int, video: Path | None) -> str:
    """Plays ``episodes`` deterministic episodes with each policy of a seed; films the best policy's first episode if asked.

    Returns the text to print: mean, standard deviation and every return.
    """
    if episodes < 1:
        raise ValueError(f"episodes is {episodes}; it must be at least 1")
    if video is not None and (video.suffix != ".mp4" or not video.parent.is_dir()):
        raise ValueError(f"video {str(video)!r} must be an .mp4 file in a folder that exists")
    about, agent, cfg, state = load(run)
    act, m = deterministic(agent, cfg, state, CPU), policies(agent, cfg)
    side = envs.make(about["env"], m * episodes, about["backend"])
    if (side.obs_size, side.action_size) != (about["obs_size"], about["action_size"]):
        raise ValueError(
            f"{run} was trained on {about['obs_size']} observation and {about['action_size']} action numbers; "
            f"{about['env']!r} has {side.obs_size} and {side.action_size} here: install the versions that its policy.json names"
        )
    try:
        result = evaluate(act, side, [about["seed"]], m * episodes)
    except envs.BrokenEnvironment as error:
        raise ValueError(str(error)) from None
    side.close()
    assert result is not None  # nothing asks it to stop
    r, name = result.returns[0], f"{about['agent']} on {about['env']}, seed {about['seed']}, step {about['step']:,}"
    text = f"{name}: return {r.mean():.1f} +- {r.std():.1f} over {episodes} episode{'s' * (episodes > 1)}"
    each = r.reshape(m, episodes).mean(1)
    best = int(each.argmax())
    text += f" of each of {m} policies; the best, policy {best}: {each[best]:.1f}\n" if m > 1 else "\n"
    text += "returns: " + " ".join(f"{v:.1f}" for v in r)
    if video is not None:
        frames, total = film(about["env"], lambda obs: act(np.repeat(obs, m, 1))[:, best : best + 1], about["seed"], video)
        text += f"\nvideo: {video} ({frames} frames, return {total:.1f})"
    return text


def film(name: str, act: Policy, seed: int, video: Path) -> tuple[int, float]:
    """Films one episode as mp4; no display is needed. Returns the number of frames and the return. Raises ValueError where it cannot."""
    os.environ.setdefault("MUJOCO_GL", "egl")
    try:
        import imageio_ffmpeg  # type: ignore[import-untyped]
    except ImportError:
        raise ValueError("video needs the package imageio-ffmpeg: pip install imageio-ffmpeg") from None
    try:
        env = envs.Film(name, starts([seed], 1)[0])
    except Exception as error:
        reason = " ".join(str(error).split()) or type(error).__name__
        raise ValueError(f"video of {name!r} cannot be rendered ({reason}); try MUJOCO_GL=egl or MUJOCO_GL=osmesa") from None
    frames, total, obs, running = 0, 0.0, env.obs, True
    try:
        height, width, _ = env.frame().shape
        writer = imageio_ffmpeg.write_frames(str(video), (width, height), fps=env.fps, macro_block_size=1)
        with closing(writer):
            writer.send(None)
            while running and frames < LONGEST:
                writer.send(np.ascontiguousarray(env.frame()))
                obs, reward, running = env.step(act(obs[None, None])[0, 0])
                frames, total = frames + 1, total + reward
    except OSError as error:
        raise ValueError(f"video {str(video)!r} cannot be written: {error.strerror or error}") from None
    finally:
        env.close()
    return frames, total
