"""wgf eval: returns and films of saved policies, and what it refuses."""

import json
import shutil
import subprocess
import sys

import numpy as np
import onnxruntime
import pytest

from wgf.agents.training import checkpoint

RUN = "runs/main/InvertedPendulum-v5/sac/seed-3"


@pytest.fixture
def trained(person, tiny):
    assert person("train", "sac", "--env", "InvertedPendulum-v5", "--first-seed", 3, *tiny)[0] == 0
    return person


def refused(person, words, *args):
    code, out, err = person("eval", *args)
    assert code == 2
    assert out == ""
    assert words in err
    assert err.startswith("wgf: ")
    assert err.count("\n") == 1


def test_a_policy_shows_what_its_training_measured(trained):
    """The first two evaluation episodes are those of training: same starts, same policy."""
    code, out, err = trained("eval", RUN, "--episodes", 2)
    assert (code, err) == (0, "")
    measured = json.loads((trained.folder / RUN / "result.json").read_text())["eval_return"]
    assert f"sac on InvertedPendulum-v5, seed 3, step 60: return {measured:.1f} +- " in out
    assert len(out.splitlines()[1].split()) == 3
    assert trained("eval", RUN)[1].count("\n") == 2
    assert len(trained("eval", RUN)[1].splitlines()[1].split()) == 11  # ten episodes


def film(person, *args):
    return subprocess.run(
        [sys.executable, "-c", "from wgf.runs.command.cli import main; main()", "eval", RUN, "--episodes", "1", *args],
        cwd=person.folder, capture_output=True, text=True, timeout=300,
    )  # fmt: skip


def test_a_film_shows_the_first_episode_without_a_display(trained, monkeypatch):
    ffmpeg = pytest.importorskip("imageio_ffmpeg")
    monkeypatch.delenv("DISPLAY", raising=False)
    monkeypatch.delenv("MUJOCO_GL", raising=False)
    done = film(trained, "--video", "film.mp4")
    if "cannot be rendered" in done.stderr:
        assert done.returncode == 2
        assert done.stderr.count("\n") == 1
        pytest.skip("no EGL on this machine")
    assert (done.returncode, done.stderr) == (0, "")
    line = done.stdout.splitlines()[-1]
    total = float(done.stdout.splitlines()[1].split()[1])
    frames = int(line.split("(")[1].split()[0])
    assert line == f"video: film.mp4 ({frames} frames, return {total:.1f})"
    reader = ffmpeg.read_frames(str(trained.folder / "film.mp4"))
    meta = next(reader)
    pictures = list(reader)
    assert meta["size"] == (480, 480)
    assert len(pictures) == frames
    assert len(set(pictures[0])) > 20  # not a blank
    assert pictures[0] != pictures[-1]
    shown = [entry for entry in done.stdout.splitlines() if entry.startswith("film  ")]
    assert shown[0].startswith("film  1/1,000  return 1.0")
    reader.close()
    done = film(trained, "--video", "film.mp4", "--frames", "2", "--size", "64x96")
    assert done.stdout.splitlines()[-1] == "video: film.mp4 (2 frames, return 2.0)"
    reader = ffmpeg.read_frames(str(trained.folder / "film.mp4"))
    assert next(reader)["size"] == (64, 96)
    assert len(list(reader)) == 2


SQUARE = """
import gymnasium, numpy as np

class Square(gymnasium.Env):
    metadata = {"render_modes": ["rgb_array"], "render_fps": 10}
    observation_space = action_space = gymnasium.spaces.Box(-1.0, 1.0, (1,))

    def __init__(self, render_mode=None):
        self.render_mode = render_mode

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        return np.zeros(1, np.float32), {}

    def step(self, action):
        return np.zeros(1, np.float32), 1.0, False, False, {}

    def render(self):
        return np.full((40, 40, 3), 255, np.uint8)

gymnasium.register("Square-v0", entry_point=Square, max_episode_steps=9)
"""


def test_a_picture_of_other_proportions_gets_a_margin(person, tiny):
    """An environment that draws a white square, in no other size; margins are black."""
    ffmpeg = pytest.importorskip("imageio_ffmpeg")
    (person.folder / "square_task.py").write_text(SQUARE)
    person("train", "sac", "--env", "square_task:Square-v0", *tiny)
    run = next((person.folder / "runs" / "main").rglob("seed-0"))
    film = ("--video", "film.mp4", "--frames", 3, "--size", "320x160")
    code, out, err = person("eval", run, "--episodes", 1, "--env", "square_task:Square-v0", *film)
    assert (code, err) == (0, "")
    assert "film  3/3  return " in out
    reader = ffmpeg.read_frames(str(person.folder / "film.mp4"))
    assert next(reader)["size"] == (320, 160)
    picture = np.frombuffer(next(reader), np.uint8).reshape(160, 320, 3)
    assert picture[80, 40].max() < 20
    assert picture[10, 100].min() > 235
    assert picture[80, 280].max() < 20
    reader.close()


@pytest.mark.parametrize(
    ("args", "words"),
    [
        (("--frames", 0), "frames is 0; it must be at least 1"),
        (("--frames", "x"), "--frames is 'x'; it must be a whole number"),
        (("--size", "640"), "size is '640'; it must be two even numbers from 16 to 4096, as in 1280x720"),
        (("--size", "641x480"), "size is '641x480'; it must be two even numbers"),
        (("--size", "8x480"), "size is '8x480'; it must be two even numbers"),
        (("--size", "640x5000"), "size is '640x5000'; it must be two even numbers"),
    ],
)
def test_a_film_of_no_size_is_refused(trained, args, words):
    refused(trained, words, RUN, "--video", "film.mp4", *args)


def test_a_size_without_a_film_is_refused(trained):
    refused(trained, "frames is 5, of a film that is not asked for; add --video FILE.mp4", RUN, "--frames", 5)
    refused(trained, "size is 64x64, of a film that is not asked for; add --video FILE.mp4", RUN, "--size", "64x64")


def test_a_film_that_cannot_be_rendered_is_one_line(trained, monkeypatch):
    monkeypatch.setenv("MUJOCO_GL", "glfw")
    monkeypatch.delenv("DISPLAY", raising=False)
    done = film(trained, "--video", "film.mp4")
    assert done.returncode == 2
    assert "cannot be rendered" in done.stderr.splitlines()[-1]
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize("video", ["film.avi", "nowhere/film.mp4"])
def test_a_film_needs_a_place(trained, video):
    refused(trained, f"video '{video}' must be an .mp4 file in a folder that exists", RUN, "--video", video)


def test_a_film_needs_its_package(trained, monkeypatch):
    monkeypatch.setitem(sys.modules, "imageio_ffmpeg", None)
    code, _, err = trained("eval", RUN, "--episodes", 1, "--video", "film.mp4")
    assert (code, err) == (2, "wgf: video needs the package imageio-ffmpeg: pip install imageio-ffmpeg\n")


def test_a_folder_that_is_no_run_is_refused(trained):
    refused(trained, "nowhere/policy.json cannot be read: No such file or directory; give the folder of a run", "nowhere")
    refused(trained, "policy.json cannot be read: No such file or directory; give the folder of a run", "runs")
    refused(trained, "episodes is 0; it must be at least 1", RUN, "--episodes", 0)
    refused(trained, "--episodes is 'x'; it must be a whole number", RUN, "--episodes", "x")


def reseal(folder, **changes):
    about = json.loads((folder / "policy.json").read_text()) | changes
    del about["seal"]
    (folder / "policy.json").write_text(json.dumps({**about, "seal": checkpoint._seal(about)}))


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"agent": "a2c"}, "agent 'a2c' is unknown"),
        ({"agent": ["sac"]}, "does not describe an agent of this version: agent is ['sac']"),
        ({"preset": "modern"}, "does not describe an agent of this version"),
        ({"agent": "soft-q"}, "does not describe an agent of this version"),
        ({"config": {"lr": -1.0}}, "lr is -1.0; it must be above 0"),
        ({"config": {"speed": 1.0}}, "does not describe an agent of this version"),
        ({"config": 3}, "does not describe an agent of this version"),
        ({"obs_size": 5}, "was trained on 5 observation and 1 action numbers"),
        ({"obs_size": -5}, "was trained on -5 observation"),
        ({"obs_size": 10**15}, "was trained on 1000000000000000 observation"),
        ({"obs_size": "4"}, "does not describe an agent of this version"),
        ({"env": "Nothing-v0"}, "environment 'Nothing-v0' cannot be made"),
        ({"env": "Pendulum-v1"}, "was trained on 4 observation and 1 action numbers; 'Pendulum-v1' has 3 and 1 here"),
    ],
)
def test_a_policy_of_something_else_is_one_line(trained, changes, words):
    reseal(trained.folder / RUN, **changes)
    refused(trained, words, RUN)


@pytest.mark.parametrize("field", ["env", "agent"])
@pytest.mark.parametrize("name", ["evil:Pendulum-v1", "evil.part:sac", "evil", "dm_control/evil:x", ":evil"])
def test_no_file_has_a_module_imported(trained, field, name):
    """The trap lies where the person stands, in the run's folder and beside it; what is loaded would leave a mark."""
    for place in (trained.folder, trained.folder / RUN):
        (place / "evil.py").write_text("open('owned', 'w')\n")
    reseal(trained.folder / RUN, **{field: name})
    refused(trained, "name it yourself, by" if ":" in name else "evil", RUN)
    assert not list(trained.folder.rglob("owned"))
    assert str(trained.folder) not in sys.path


def test_an_agent_of_ones_own_is_evaluated_where_the_person_names_it(trained):
    reseal(trained.folder / RUN, agent="wgf.agents:sac_v")
    refused(trained, "its agent is 'wgf.agents:sac_v'", RUN)
    code, out, _ = trained("eval", RUN, "--episodes", 1, "--agent", "wgf.agents:sac_v")
    assert code == 0
    assert out.startswith("wgf.agents:sac_v on InvertedPendulum-v5, seed 3, step 60: return ")


@pytest.mark.parametrize("missing", ["agent", "config", "obs_size", "env", "backend", "seed", "step"])
def test_a_policy_that_lacks_a_field_is_one_line(trained, missing):
    folder = trained.folder / RUN
    about = json.loads((folder / "policy.json").read_text())
    about = {k: v for k, v in about.items() if k not in (missing, "seal")}
    (folder / "policy.json").write_text(json.dumps({**about, "seal": checkpoint._seal(about)}))
    refused(trained, "does not describe an agent of this version", RUN)


def test_a_damaged_policy_is_refused(trained):
    folder = trained.folder / RUN
    shutil.copy(folder / "config.json", folder / "policy-60.safetensors")
    refused(trained, "policy-60.safetensors is damaged: its sha256 is not the one in policy.json", RUN)


def test_a_run_is_written_as_a_model_that_says_whose_policy_it_holds(trained):
    code, out, err = trained("export", RUN, "sac.onnx")
    assert (code, err) == (0, "")
    assert out == "sac.onnx: sac on InvertedPendulum-v5, seed 3, step 60; observations (n, 4) -> actions (n, 1)\n"
    properties = onnxruntime.InferenceSession(str(trained.folder / "sac.onnx")).get_modelmeta().custom_metadata_map
    assert properties["sha256"] == json.loads((trained.folder / RUN / "policy.json").read_text())["sha256"]


@pytest.mark.parametrize(
    ("args", "words"),
    [
        ((RUN, "sac.pt"), "file 'sac.pt' must be an .onnx file in a folder that exists"),
        ((RUN,), "FILE.onnx is missing (see wgf export --help)"),
        ((RUN, "sac.onnx", "--policy", 1), "policy is 1; it must be from 0 to 0"),
        (("nowhere", "sac.onnx"), "nowhere/policy.json cannot be read"),
    ],
)
def test_what_cannot_be_exported_is_one_line(trained, args, words):
    code, out, err = trained("export", *args)
    assert (code, out, err.count("\n")) == (2, "", 1)
    assert words in err


def test_of_a_stack_one_seed_is_exported(trained, tiny):
    trained("train", "sac", "--env", "InvertedPendulum-v5", "--first-seed", 4, *tiny)
    code, _, err = trained("export", "runs/main/InvertedPendulum-v5/sac", "sac.onnx")
    assert code == 2
    assert err.endswith("sac holds 2 seeds; give the folder of one, as in runs/main/InvertedPendulum-v5/sac/seed-3\n")
