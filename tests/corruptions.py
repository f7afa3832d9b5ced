"""Corrupts every file that a command reads, and counts what becomes of it: python -m tests.corruptions --count 1000

A corruption is refused in one line that names the file, or answered by a correct fall-back: the checkpoint before, a run that is
trained again. Where a flip changes no meaning, as of a tab between two numbers, what is read is what was written. Anything else is a fault:
other content that is believed, or another error.
"""

import argparse
import gzip
import hashlib
import io
import shutil
import tempfile
import warnings
from collections import Counter
from collections.abc import Callable
from contextlib import redirect_stderr, redirect_stdout, suppress
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch

from wgf.agents import Agent
from wgf.agents.training import checkpoint
from wgf.agents.training.folder import newest
from wgf.agents.training.schedule import Schedule
from wgf.agents.training.store import Store
from wgf.bnn import BayesianRegressor, Settings, data
from wgf.bnn.fit import Course
from wgf.runs.command.options import Contest, Place, Study
from wgf.runs.studies import bnn, bnn_diary, bnn_report, figure3
from wgf.runs.trainer import compare
from wgf.runs.trainer.reuse import complete, missing
from wgf.snapshot import parted

SCHEDULE = Schedule(steps=60, warmup=20, log_every=15, eval_every=30, eval_episodes=1, checkpoint_every=30)
TOKEN = "sac:hidden=4,4:batch=4"
NUMBERS = np.random.default_rng(0).standard_normal((40, 3)).round(3)
TOY = data.Set(40, 2, "nothing", hashlib.sha256(NUMBERS.astype("<f8").tobytes()).hexdigest(), splits=2, hidden=3, batch=8)


class Reader(NamedTuple):
    """A folder, which files of it a command reads, and the command: what it returns is compared with what it returned before."""

    folder: Path
    files: tuple[str, ...]
    read: Callable[[Path], Any]


def made(home: Path) -> dict[str, Reader]:
    """Makes every kind of file by the commands that write them, and returns their readers."""
    data.SETS["toy"] = TOY
    with redirect_stdout(io.StringIO()):
        complete([job(home / "runs")], lambda line: None)
        seeds = home / "runs" / "main" / "Pendulum-v1" / TOKEN.replace(":", ",")
        for name, content in (("plain/toy/data.txt", text()), ("packed/toy/data.txt.gz", gzip.compress(text()))):
            (home / name).parent.mkdir(parents=True)
            (home / name).write_bytes(content)
        bnn.main(study(home), lambda line: None)
    model = BayesianRegressor(particles=2, iterations=20, hidden=2, random_state=0).fit(NUMBERS[:, :2], NUMBERS[:, 2])
    (home / "model").mkdir()
    model.save(home / "model" / "model.safetensors")
    begun(home / "half" / "fit")
    metric = {"hidden": (2,), "horizon": 20, "batch": 10, "epochs": 1, "metric": "none", "normalize": "both", "device": "cpu"}
    Agent("wnpg", "Pendulum-v1", **metric).learn(20).save(home / "metric")
    figure3.spectra(home / "metric", (0,))
    runs = [f"main/Pendulum-v1/{seeds.name}/seed-{k}" for k in (0, 1)]
    return {
        "policy": Reader(seeds, ("seed-*/policy*",), policy),
        "run": Reader(home / "runs", tuple(f"{run}/{name}" for run in runs for name in ("config.json", "result.json", "metrics.csv")), run),
        "checkpoint": Reader(seeds / "seed-0" / "training", ("*",), stored),
        "regressor": Reader(home / "model", ("*",), lambda folder: vars(BayesianRegressor.load(folder / "model.safetensors"))),
        "half a fit": Reader(home / "half", ("fit/training/*",), taken_up),
        "fit": Reader(home / "bnn" / "toy" / "svgd", ("*.csv", "*.json"), fitted),
        "spectrum": Reader(home / "metric", (f"seed-0/{figure3.KEPT}",), lambda folder: figure3.spectra(folder, (0,))),
        "set": Reader(home / "plain", ("toy/*",), lambda folder: data.load(folder, "toy")),
        "packed set": Reader(home / "packed", ("toy/*",), lambda folder: data.load(folder, "toy")),
    }


def text() -> bytes:
    """The numbers of the toy set as its file has them."""
    return "".join(" ".join(map(str, row)) + "\n" for row in NUMBERS.tolist()).encode()


def study(home: Path) -> Study:
    """A study of Bayesian regression of a second."""
    return Study(data=home / "plain", sets=("toy",), methods=("svgd",), iterations=20, particles=2, out=str(home), name="bnn", device="cpu")


def job(out: Path) -> Any:
    """A training of two seeds of a second."""
    return compare.plan(TOKEN, Contest(env="Pendulum-v1", seeds=2), SCHEDULE, Place(out=str(out), device="cpu"))


def policy(folder: Path) -> Any:
    """What ``wgf eval`` plays."""
    agent = Agent.load(folder, device="cpu")
    return checkpoint.tensors(agent.state), agent.about(agent.schedule), agent.step, agent.seeds


def run(folder: Path) -> Any:
    """What ``wgf compare`` shows: or that it would train again, or go on."""
    if parts := missing(job(folder)):
        return Again(all(part.threads is not None for part in parts))
    folders = [job(folder).folder(k) for k in (0, 1)]
    return compare.read("x", folders), compare.mixed(folders)


def stored(folder: Path) -> Any:
    """What a training goes on from."""
    saved = newest(Store(folder))
    return Step(saved.step, printed((saved.snapshot, list(saved.pieces()))))


def fitted(folder: Path) -> Any:
    """What ``wgf bnn`` shows of a fit that is there already."""
    bnn.finished(bnn.plan(study(folder), "toy", "svgd")._replace(folder=folder))
    scores = bnn_report.read("svgd", folder)
    curve, predictions = bnn_report.curve(folder, "rmse"), bnn_report._columns(folder, "predictions.csv", bnn_report.PREDICTIONS)
    return scores, bnn_report.table("toy", [scores]), curve, predictions, checkpoint.read_sealed(folder / "config.json")


HALF: dict[str, Any] = {"splits": 1, "versions": {}}  # what is said of a fit that was stopped


def course() -> Course:
    """A fit of a moment."""
    x, y = torch.from_numpy(NUMBERS[None, :, :2]), torch.from_numpy(NUMBERS[None, :, 2:])
    return Course(Settings(hidden=(2,), particles=2, iterations=40), x, y, [0])


def begun(folder: Path) -> None:
    """Leaves a fit where it is stopped after half of its steps, with a checkpoint."""
    found, diary = bnn_diary.opened(folder, HALF, course)

    def stop(step: int) -> None:
        if step == 20:
            raise KeyboardInterrupt

    with suppress(KeyboardInterrupt):
        found.run(lambda step, now: diary.look(step, {"rmse": now.rmse(*(t[:, -4:] for t in found._data[:2]))}), stop)
    diary.keep()
    diary.close()


def taken_up(folder: Path) -> Any:
    """What ``wgf bnn`` goes on from: or that it would begin anew."""
    found, diary = bnn_diary.opened(folder / "fit", HALF, course)
    diary.close()
    return Step(found.step, printed((found.snapshot(), list(diary.rows())))) if found.step else Again(goes_on=False)


class Again(NamedTuple):
    """A run that is trained again, from its last checkpoint on, as the training says, or from its beginning."""

    goes_on: bool


class Step(NamedTuple):
    """The checkpoint of a step, and a print of what is in it."""

    step: int
    content: str


def printed(value: Any) -> str:
    """Returns a print of a value in which every number counts."""
    if isinstance(value, torch.Tensor):
        return f"{value.dtype}{tuple(value.shape)}{hashlib.sha256(value.contiguous().numpy().tobytes()).hexdigest()}"
    if isinstance(value, np.ndarray):
        return f"{value.dtype}{value.shape}{hashlib.sha256(np.ascontiguousarray(value).tobytes()).hexdigest()}"
    if isinstance(value, dict):
        tensors, rest = parted(value)
        return repr(sorted((name, printed(t)) for name, t in tensors.items())) + repr(
            [(k, printed(v)) for k, v in rest.items() if not isinstance(v, dict) or v]
        )
    if isinstance(value, (tuple, list)):
        return f"{type(value).__name__}({','.join(map(printed, value))})"
    return repr(value)


def corrupted(content: bytes, others: list[bytes], random: np.random.Generator) -> tuple[str, bytes | None]:
    """Draws a corruption: its name, and what stands in the file afterwards, None where it is gone."""
    kind = random.choice(["flip", "flip", "flip", "flips", "cut", "empty", "zeros", "zeroed", "longer", "swapped", "other", "gone"])
    data, n = bytearray(content), len(content)
    if kind in ("flip", "flips"):
        for bit in random.integers(0, 8 * n, 1 if kind == "flip" else 16):
            data[bit // 8] ^= 1 << int(bit % 8)
    first, last = sorted(random.integers(0, n + 1, 2).tolist())
    if kind == "zeroed":
        data[first:last] = bytes(last - first)
    if kind == "swapped":  # two blocks of a file in each other's places
        data = data[last:] + data[first:last] + data[:first]
    whole = {
        "cut": content[: n - 1 - int(random.integers(0, n))],
        "empty": b"",
        "zeros": bytes(n),
        "longer": content + content[first : last + 1],
    }
    if kind == "other":
        return kind, others[int(random.integers(0, len(others)))] if others else b"{}"
    return kind, None if kind == "gone" else bytes(whole.get(kind, data))


def attack(home: Path, count: int, seed: int) -> tuple[Counter[str], list[str]]:
    """Corrupts ``count`` files, one at a time, in folders made anew; returns how often each answer came, and the faults."""
    readers, random, answers, faults = made(home / "made"), np.random.default_rng(seed), Counter[str](), list[str]()
    place = home / "copy"
    right = {name: reader.read(_copied(reader.folder, place)) for name, reader in readers.items()}
    before = earlier(readers["checkpoint"], place)
    while answers.total() < count:
        name = list(readers)[int(random.integers(0, len(readers)))]
        reader, copy = readers[name], _copied(readers[name].folder, place)
        files = sorted(path for pattern in reader.files for path in copy.glob(pattern) if path.is_file())
        file = files[int(random.integers(0, len(files)))]
        content = file.read_bytes()
        kind, after = corrupted(content, [f.read_bytes() for f in files if f != file], random)
        if after == content:
            continue
        file.unlink()
        if after is not None:
            file.write_bytes(after)
        answer = answered(reader, copy, right[name], before)
        answers[f"{answer.split(':')[0]}"] += 1
        if answer.startswith("fault"):
            faults.append(f"{name}, {file.relative_to(copy)}, {kind}: {answer}")
    return answers, faults


def earlier(reader: Reader, place: Path) -> Step:
    """The checkpoint before the last."""
    _copied(reader.folder, place).joinpath(f"training-{SCHEDULE.steps}.json").unlink()
    found: Step = stored(place)
    return found


def answered(reader: Reader, copy: Path, right: Any, before: Step) -> str:
    """Reads what was corrupted, and says what came of it."""
    with warnings.catch_warnings(record=True) as warned, redirect_stderr(io.StringIO()) as err:
        warnings.simplefilter("always")
        try:
            found = reader.read(copy)
        except ValueError as error:
            named = str(copy) in str(error) and "\n" not in str(error)
            return "refused in a line" if named else f"fault: {error}"
        except Exception as error:
            return f"fault: {type(error).__name__}: {error}"
    if isinstance(found, Again):
        return "trained again" if err.getvalue() or found.goes_on else "fault: it trains again without a word"
    if printed(found) == printed(right):
        return "read as it was written"
    gone = not (copy / f"training-{SCHEDULE.steps}.json").exists()  # then nothing says that there was a later one
    if found == before and (gone or any(issubclass(w.category, RuntimeWarning) for w in warned)):
        return "fell back to the checkpoint before"
    return "fault: other content was believed"


def _copied(folder: Path, place: Path) -> Path:
    shutil.rmtree(place, ignore_errors=True)
    shutil.copytree(folder, place)
    return place


def main() -> None:
    """Prints how often each answer came; fails where there was a fault."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--count", type=int, default=1000, help="how many corruptions")
    parser.add_argument("--seed", type=int, default=0, help="of the draws")
    options = parser.parse_args()
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as home:
        answers, faults = attack(Path(home), options.count, options.seed)
    for answer, times in answers.most_common():
        print(f"{times:6,}  {answer}")
    print("\n".join([f"{len(faults)} faults in {options.count:,} corruptions, seed {options.seed}", *faults]))
    raise SystemExit(bool(faults))


if __name__ == "__main__":
    main()
