"""A saved policy at work: returns over episodes, and a film of one."""

import os
from pathlib import Path
from typing import Any

import numpy as np
import torch

from agents import registry
from agents.training import checkpoint, envs
from agents.training.evaluate import evaluate

CPU = torch.device("cpu")


def load(run: Path) -> tuple[dict[str, Any], Any, Any, Any]:
    """(about, agent, cfg, state) of a run folder. Raises ValueError, in one line, for a folder that is none."""
    about, tensors = checkpoint.load(run)
    try:
        agent, preset = registry.find(about["agent"], about["preset"])
        settings = {k: tuple(v) if isinstance(v, list) else v for k, v in about["config"].items()}
        cfg = type(preset)(**settings)
        state = agent.init(cfg, about["obs_size"], about["action_size"], [torch.Generator().manual_seed(0)], CPU)
    except (KeyError, TypeError) as error:
        raise ValueError(f"{run / 'policy.json'} does not describe an agent of this version: {error}") from None
    checkpoint.restore_(state, [tensors])
    return about, agent, cfg, state


def show(run: Path, episodes: int, video: Path | None) -> str:
    """Mean, spread and every return of ``episodes`` deterministic episodes; films one if asked. Returns the text to print."""
    if episodes < 1:
        raise ValueError(f"episodes is {episodes}; it must be at least 1")
    about, agent, cfg, state = load(run)
    side = envs.make(about["env"], episodes)
    result = evaluate(agent, cfg, state, side, [about["seed"]], episodes, CPU)
    side.close()
    r = result.returns[0]
    text = f"{about['agent']} on {about['env']}, seed {about['seed']}, step {about['step']:,}: return {r.mean():.1f} +- {r.std():.1f} over {episodes} episodes\n"
    text += "returns: " + " ".join(f"{v:.1f}" for v in r)
    if video is not None:
        frames = film(about["env"], agent, cfg, state, about["seed"], video)
        text += f"\nvideo: {video} ({frames} frames)"
    return text


def film(name: str, agent: Any, cfg: Any, state: Any, seed: int, video: Path) -> int:
    """Writes one episode as mp4 without a display; returns the number of frames. Raises ValueError where that cannot be done."""
    if video.suffix != ".mp4" or not video.parent.is_dir():
        raise ValueError(f"video {str(video)!r} must be an .mp4 file in a folder that exists")
    os.environ.setdefault("MUJOCO_GL", "egl")
    try:
        import imageio.v2 as imageio
        import imageio_ffmpeg  # noqa: F401 - imageio's mp4 writer
    except ImportError:
        raise ValueError("video needs the package imageio-ffmpeg: pip install 'wgf[video]'") from None
    try:
        env = envs.Film(name, seed)
    except Exception as error:
        raise ValueError(f"video of {name!r} cannot be rendered ({str(error).splitlines()[0]}); try MUJOCO_GL=osmesa") from None
    with imageio.get_writer(video, fps=env.fps, macro_block_size=1) as writer:
        count, obs, running = 0, env.obs, True
        while running:
            writer.append_data(np.asarray(env.frame()))
            with torch.no_grad():
                action = agent.greedy(cfg, state, torch.from_numpy(obs).reshape(1, 1, -1))
            obs, running = env.step(action[0, 0].numpy())
            count += 1
    env.close()
    return count
