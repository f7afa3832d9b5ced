"""What is done with a saved policy: it plays episodes, is filmed, and is written for other programs."""

import os
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import numpy as np

from wgf.agents import Agent
from wgf.agents.training import envs
from wgf.agents.training.evaluate import LONGEST, starts
from wgf.runs.command.options import Show
from wgf.runs.command.progress import Progress

__all__ = ["export", "film", "show"]

SCALED = "scale={0}:{1}:force_original_aspect_ratio=decrease,pad={0}:{1}:-1:-1"


def show(what: Show, say: Callable[[str], None]) -> None:
    """Plays deterministic episodes with each policy of a seed, and says their mean, standard deviation and every return.

    Films the best policy's first episode if asked. The environment and the agent that a person named take the places of the names in
    the run: only these may be of a module that is imported.
    """
    saved = Agent.load(what.run, what.env, what.agent, device="cpu")
    r, m, episodes = saved.evaluate(what.episodes).returns[0], saved.policies, what.episodes
    name = f"{saved.name} on {saved.source.name}, seed {saved.seeds[0]}, step {saved.step:,}"
    text = f"{name}: return {r.mean():.1f} +- {r.std():.1f} over {episodes} episode{'s' * (episodes > 1)}"
    each = r.reshape(m, episodes).mean(1)
    best = int(each.argmax())
    text += f" of each of {m} policies; the best, policy {best}: {each[best]:.1f}\n" if m > 1 else "\n"
    say(text + "returns: " + " ".join(f"{v:.1f}" for v in r))
    if what.video is not None:
        frames, total = film(saved, best, what.video, what.frames or LONGEST, what.pixels())
        say(f"video: {what.video} ({frames} frames, return {total:.1f})")


def export(run: Path, file: Path, policy: int, env: str | None = None, agent: str | None = None) -> str:
    """Writes the policy of one seed as an ONNX model; ``env`` and ``agent`` as in ``show``. Returns the text to print."""
    saved = Agent.load(run, env, agent, device="cpu")
    if len(saved.seeds) > 1:
        raise ValueError(f"{run} holds {len(saved.seeds)} seeds; give the folder of one, as in {run / f'seed-{saved.seeds[0]}'}")
    saved.export(file, policy=policy)
    text = f"{saved.name} on {saved.source.name}, seed {saved.seeds[0]}, step {saved.step:,}"
    return f"{file}: {text}; observations (n, {saved.obs_size}) -> actions (n, {saved.action_size})"


def film(agent: Agent, policy: int, video: Path, most: int, size: tuple[int, int] | None) -> tuple[int, float]:
    """Films a policy's first episode, or its first ``most`` steps, as mp4; no display is needed. Shows how far it is.

    ``size``: width and height; a picture of other proportions gets a margin. Returns the number of frames and the return until there.
    **Raises** ValueError where it cannot.
    """
    os.environ.setdefault("MUJOCO_GL", "egl")
    try:
        import imageio_ffmpeg  # type: ignore[import-untyped]
    except ImportError:
        raise ValueError("video needs the package imageio-ffmpeg: pip install imageio-ffmpeg") from None
    name = agent.source.name
    try:
        env = envs.Film(name, starts(agent.seeds, 1)[0], size)
    except Exception as error:
        reason = " ".join(str(error).split()) or type(error).__name__
        raise ValueError(f"video of {name!r} cannot be rendered ({reason}); try MUJOCO_GL=egl or MUJOCO_GL=osmesa") from None
    frames, total, obs, running, last = 0, 0.0, env.obs, True, min(most, env.horizon or LONGEST)
    try:
        height, width, _ = env.frame().shape
        fit = [] if size is None or size == (width, height) else ["-vf", SCALED.format(*size)]
        writer = imageio_ffmpeg.write_frames(str(video), (width, height), fps=env.fps, macro_block_size=1, output_params=fit)
        with closing(writer), Progress("film", last) as progress:
            writer.send(None)
            while running and frames < last:
                writer.send(np.ascontiguousarray(env.frame()))
                obs, reward, running = env.step(agent.predict(obs, policy=policy))
                frames, total = frames + 1, total + reward
                progress.show(frames, f"return {total:.1f}")
    except OSError as error:
        raise ValueError(f"video {str(video)!r} cannot be written: {error.strerror or error}") from None
    finally:
        env.close()
    return frames, total
