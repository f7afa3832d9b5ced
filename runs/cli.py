"""The command line: wgf train, compare, eval, agents. Heavy imports wait until a command needs them."""

import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, make_dataclass
from pathlib import Path
from typing import Any

HELP = """usage: wgf COMMAND ...

Wasserstein gradient flows on particles: train and compare policies.

  wgf train AGENT --env ENV     train an agent, any number of seeds in one stacked computation
  wgf compare --env ENV         train what is missing, then a figure and a table of several agents
  wgf eval RUN                  returns of a saved policy, and a video
  wgf agents                    the agents and their presets

  wgf COMMAND --help            the options of a command (wgf train AGENT --help for an agent's)

  wgf train dp-wgf-v --env Hopper-v5 --seeds 5 --steps 200000 --preset paper --device auto
  wgf compare --env Hopper-v5 --agents sac dp-wgf-v --seeds 5 --steps 100000
  tensorboard --logdir runs
"""


def main() -> None:
    """Entry point of the console script."""
    sys.exit(run(sys.argv[1:]))


def run(args: Sequence[str]) -> int:
    """Runs a command line; returns its exit code: 0 done, 2 unusable arguments, 70 a run failed, 75 interrupted."""
    commands: dict[str, Callable[[Sequence[str]], int]] = {"train": _train, "compare": _compare, "eval": _eval, "agents": _agents}
    if not args or args[0] in ("-h", "--help"):
        print(HELP, end="")
        return 0
    from runs.arguments import UsageError

    try:
        if args[0] not in commands:
            raise UsageError(f"command {args[0]!r} is unknown; choose from {', '.join(commands)} (see wgf --help)")
        return commands[args[0]](args[1:])
    except (UsageError, ValueError) as error:
        print(f"wgf: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("wgf: stopped", file=sys.stderr)
        return 75


def _say(line: str) -> None:
    print(line, flush=True)


def _train(args: Sequence[str]) -> int:
    from agents.training.loop import Schedule
    from runs import training
    from runs.arguments import UsageError, parse

    @dataclass(frozen=True)
    class What:
        """What to train on."""

        env: str = "Hopper-v5"
        """Gymnasium id of an environment with Box actions."""
        seeds: int = 1
        """Number of seeds, trained as one stack."""
        first_seed: int = 0
        """The first of them."""
        preset: str = "paper"
        """paper (the tables of Zhang et al. 2018) or modern."""

    if not args or args[0].startswith("-"):
        if args and args[0] in ("-h", "--help"):
            print("usage: wgf train AGENT --env ENV ...\n")
            return _agents([])
        raise UsageError("train needs an agent first, as in: wgf train dp-wgf-v --env Hopper-v5 (see wgf agents)")
    name = args[0]
    preset, env = _ahead(args, "--preset", "paper"), _ahead(args, "--env", "Hopper-v5")
    cfg = training.resolve(name, preset, env)
    options = make_dataclass(
        "Train", [("what", What), ("schedule", Schedule), ("agent", type(cfg)), ("place", training.Place)], frozen=True
    )
    default = options(What(env=env, preset=preset), Schedule(), cfg, training.Place())
    chosen: Any = parse(options, args[1:], default=default, prog=f"wgf train {name}")
    what = chosen.what
    seeds = _seeds(what.seeds, what.first_seed)
    job = training.Job(name, name, what.preset, chosen.agent, what.env, seeds, chosen.schedule, chosen.place)
    return training.exit_code(training.run(job, _say))


def _compare(args: Sequence[str]) -> int:
    from agents.training.loop import Schedule
    from runs import training
    from runs.arguments import parse

    @dataclass(frozen=True)
    class What:
        """What to compare."""

        agents: tuple[str, ...] = ("sac", "dp-wgf-v")
        """Agents, the first the baseline; settings follow a colon, as in dp-wgf-v:w2_scale=0 or sac:preset=modern."""
        env: str = "Hopper-v5"
        """Gymnasium id of an environment with Box actions."""
        seeds: int = 5
        """Number of seeds, trained as one stack."""
        preset: str = "paper"
        """paper (the tables of Zhang et al. 2018) or modern."""
        threshold: float | None = None
        """Return for the column "episodes to"; by default the paper's Table 2, or Gymnasium's own."""

    options = make_dataclass("Compare", [("what", What), ("schedule", Schedule), ("place", training.Place)], frozen=True)
    chosen: Any = parse(options, args, default=options(What(), Schedule(), training.Place()), prog="wgf compare")
    return compare(chosen.what, chosen.schedule, chosen.place)


def compare(what: Any, schedule: Any, place: Any) -> int:
    """Trains what is missing, then writes and prints the comparison."""
    from agents.training.envs import reward_threshold
    from runs import training
    from runs.compare import THRESHOLDS, read, write

    jobs = [_job(token, what, schedule, place) for token in what.agents]
    todo = [training.missing(job, _say) for job in jobs]
    for job in todo:
        if job.seeds:
            code = training.exit_code(training.run(job, _say))
            if code:
                return code
    threshold = what.threshold
    if threshold is None:
        threshold = THRESHOLDS.get(what.env.rpartition("-")[0], reward_threshold(what.env))
    folder = jobs[0].folder(0).parents[1]
    curves = [read(job.label, [job.folder(seed) for seed in job.seeds]) for job in jobs]
    _say("\n" + write(curves, what.env, threshold, folder))
    _say(f"figure: {folder / 'compare.png'}   table: {folder / 'compare.md'}   curves: tensorboard --logdir {place.out}")
    return 0


def _job(token: str, what: Any, schedule: Any, place: Any) -> Any:
    from runs import training

    name, *settings = token.split(":")
    chosen = dict(s.split("=", 1) for s in settings if s.startswith("preset="))
    preset = chosen.get("preset", what.preset)
    cfg = training.override(training.resolve(name, preset, what.env), [s for s in settings if not s.startswith("preset=")])
    return training.Job(token.replace(":", ","), name, preset, cfg, what.env, _seeds(what.seeds, 0), schedule, place)


def _eval(args: Sequence[str]) -> int:
    import tyro

    from runs.arguments import UsageError, parse
    from runs.show import show

    @dataclass(frozen=True)
    class Options:
        """Returns of a saved policy with its deterministic actions."""

        run: tyro.conf.Positional[Path] = Path()
        """Folder of a run, such as runs/main/Hopper-v5/sac/seed-0."""
        episodes: int = 10
        """Episodes."""
        video: Path | None = None
        """Film an episode to this mp4 file; needs no display."""

    chosen = parse(Options, args, default=Options(), prog="wgf eval")
    if chosen.run == Path():
        raise UsageError("eval needs the folder of a run, as in: wgf eval runs/main/Hopper-v5/sac/seed-0")
    _say(show(chosen.run, chosen.episodes, chosen.video))
    return 0


def _agents(args: Sequence[str]) -> int:
    from agents.registry import AGENTS, find

    for name, presets in AGENTS.items():
        for preset in presets:
            agent, _ = find(name, preset)
            summary = (agent.__doc__ or "").splitlines()[0]
            print(f"{name:10} --preset {preset:7} {summary}")
    return 0


def _ahead(args: Sequence[str], option: str, default: str) -> str:
    """The value of an option that decides what the others mean, read before the rest."""
    for i, arg in enumerate(args):
        if arg == option and i + 1 < len(args):
            return args[i + 1]
        if arg.startswith(option + "="):
            return arg.split("=", 1)[1]
    return default


def _seeds(n: int, first: int) -> tuple[int, ...]:
    if n < 1 or first < 0:
        raise ValueError(f"seeds is {n} and first-seed is {first}; at least 1 and 0 are needed")
    return tuple(range(first, first + n))
