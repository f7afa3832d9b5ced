"""Plays episodes with a saved policy: tells their returns, and films one of them."""

import os
from contextlib import closing
from pathlib import Path

import numpy as np

from wgf.agents import Agent
from wgf.agents.training import envs
from wgf.agents.training.evaluate import LONGEST, starts


def show(run: Path, episodes: int, video: Path | None, env: str | None = None, agent: str | None = None) -> str:
    """Plays ``episodes`` deterministic episodes with each policy of a seed; films the best policy's first episode if asked.

    ``env`` and ``agent`` are what a person named, in place of the names in the run: only these may be of a module that is imported.
    Returns the text to print: mean, standard deviation and every return.
    """
    if episodes < 1:
        raise ValueError(f"episodes is {episodes}; it must be at least 1")
    if video is not None and (video.suffix != ".mp4" or not video.parent.is_dir()):
        raise ValueError(f"video {str(video)!r} must be an .mp4 file in a folder that exists")
    saved = Agent.load(run, env, agent, device="cpu")
    r, m = saved.evaluate(episodes).returns[0], saved.policies
    name = f"{saved.name} on {saved.source.name}, seed {saved.seeds[0]}, step {saved.step:,}"
    text = f"{name}: return {r.mean():.1f} +- {r.std():.1f} over {episodes} episode{'s' * (episodes > 1)}"
    each = r.reshape(m, episodes).mean(1)
    best = int(each.argmax())
    text += f" of each of {m} policies; the best, policy {best}: {each[best]:.1f}\n" if m > 1 else "\n"
    text += "returns: " + " ".join(f"{v:.1f}" for v in r)
    if video is not None:
        frames, total = film(saved, best, video)
        text += f"\nvideo: {video} ({frames} frames, return {total:.1f})"
    return text


def film(agent: Agent, policy: int, video: Path) -> tuple[int, float]:
    """Films a policy's first episode as mp4; no display is needed. Returns the number of frames and the return.

    **Raises** ValueError where it cannot.
    """
    os.environ.setdefault("MUJOCO_GL", "egl")
    try:
        import imageio_ffmpeg  # type: ignore[import-untyped]
    except ImportError:
        raise ValueError("video needs the package imageio-ffmpeg: pip install imageio-ffmpeg") from None
    name = agent.source.name
    try:
        env = envs.Film(name, starts(agent.seeds, 1)[0])
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
                obs, reward, running = env.step(agent.predict(obs, policy=policy))
                frames, total = frames + 1, total + reward
    except OSError as error:
        raise ValueError(f"video {str(video)!r} cannot be written: {error.strerror or error}") from None
    finally:
        env.close()
    return frames, total
