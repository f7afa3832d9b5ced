"""Records what the commands answer, at a size of seconds, and writes the page of it: WGF_DATA=uci python -m tests.sessions

``WGF_DATA`` is a folder of `wgf bnn-data fetch` that has the set yacht, which is there already when the session fetches it. The commands
run one after another in a folder of their own, by the console script beside this Python. ``tests/test_sessions.py`` holds that the page
has these commands and that they are still understood.
"""

import os
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).parents[1]
PAGE = ROOT / "docs" / "sessions.md"
RUN = "runs/main/wgf_CartPole-v0/sac/seed-0"
SMALL = "--env wgf/CartPole-v0 --preset modern --hidden 32,32 --batch 32 --warmup 500"
MOST = 24  # lines of an answer
FILES = {
    "lr.yaml": """environments: [wgf/CartPole-v0]
agents: [sac]
grid: {lr: [0.0003, 0.001]}
preset: modern
seeds: 2
steps: 600
warmup: 300
"""
}
SESSIONS = {
    "What there is": ["wgf agents", "wgf doctor", f"wgf doctor sac {SMALL} --steps 2000"],
    "A training": [
        f"wgf train sac {SMALL} --steps 2000 --seeds 2",
        f"wgf resume {RUN} --steps 2500",
        f"wgf train sac {SMALL} --steps 2500 --seeds 2",
    ],
    "How fast agents would train": [
        "wgf bench sac:hidden=32,32 ddpg:hidden=32,32 --env wgf/CartPole-v0 --preset modern --rounds 3 --steps 2000"
    ],
    "What is done with a policy": [f"wgf eval {RUN} --episodes 3", f"wgf export {RUN} cartpole.onnx"],
    "A comparison does not mix settings": [
        "wgf compare --name two --agents sac ddpg --seeds 2 --steps 600 --env wgf/CartPole-v0 --preset modern --warmup 300"
    ],
    "The task with four goals": ["wgf multigoal --agents dp-wgf-v --seeds 2 --steps 500"],
    "Bayesian regression": [
        "wgf bnn-data fetch --data uci --sets yacht",
        "wgf bnn --data uci --sets yacht --splits 3 --iterations 300 --methods svgd ensemble",
    ],
    "A sweep": ["wgf sweep lr.yaml --dry-run True", "wgf sweep lr.yaml --slots 1"],
    "What completes all this": ["wgf completion bash"],
    "What cannot be understood": [
        "wgf train sca --env wgf/CartPole-v0",
        "wgf train sac --stpes 100",
        "wgf train sac --lr 0",
        "wgf eval runs/main",
    ],
}
HEAD = """# Sessions

What the commands answer, at sizes that take seconds and teach nothing: recorded by `WGF_DATA=DIR python -m tests.sessions`, which runs
them one after another in a folder that is empty but for the set yacht.
A line of dots stands for lines that are left out. [What each command does](command-line.md).
"""


def answer(command: str, folder: Path) -> str:
    """Runs a command in a folder; returns what it writes, without the names of folders of this machine, and its exit code unless 0."""
    words = command.split()
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "COLUMNS": "120"}
    environment.pop("WGF_DATA", None)
    script = Path(sys.executable).with_name(words[0])
    done = subprocess.run(
        [script, *words[1:]], cwd=folder, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False
    )
    text = done.stdout.rstrip()
    for path, name in ((folder.resolve(), "~/try"), (ROOT, "~/wgflow"), (Path.home(), "~")):
        text = text.replace(str(path), name)
    lines = [line.rstrip() for line in text.splitlines()]
    if len(lines) > MOST:
        lines = [*lines[: MOST - 4], "...", *lines[-3:]]
    return "\n".join([f"$ {command}", *lines, *([f"[exit code {done.returncode}]"] if done.returncode else [])])


def commands(page: str) -> list[str]:
    """Returns the commands on a page."""
    return re.findall(r"^\$ (wgf .*)$", page, re.MULTILINE)


def main() -> None:
    """Writes the page."""
    parts = [HEAD]
    with tempfile.TemporaryDirectory() as name:
        shutil.copytree(Path(os.environ["WGF_DATA"]) / "yacht", Path(name) / "uci" / "yacht")
        for file, text in FILES.items():
            (Path(name) / file).write_text(text)
        for title, lines in SESSIONS.items():
            parts.append(f"## {title}\n")
            if title == "A sweep":
                parts += [f"`{file}`:\n\n```yaml\n{text}```\n" for file, text in FILES.items()]
            for command in lines:
                parts.append(f"```text\n{answer(command, Path(name))}\n```\n")
    PAGE.write_text("\n".join(parts))


if __name__ == "__main__":
    main()
