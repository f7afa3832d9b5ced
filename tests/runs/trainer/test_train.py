"""wgf train, as a person meets it."""

import csv
import json
import os
import pty
import resource
import shutil
import signal
import time
from pathlib import Path

import pytest
import torch
from filelock import FileLock
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from wgf.agents.training import checkpoint
from wgf.runs.command.signals import stop_signals

SHARED_TAGS = {
    "charts/episodic_return", "charts/episodic_length", "charts/steps_per_second", "eval/return", "eval/return_std", "eval/length",
    "losses/q", "losses/q_values", "losses/policy",
}  # fmt: skip
OWN_TAGS = {
    "ddpg": set(),
    "sac": {"losses/v", "policy/entropy"},
    "dp-wgf": {"flow/kl_speed", "flow/w2_speed", "flow/w2"},
    "dp-wgf-v": {"losses/v", "flow/kl_speed", "flow/w2_speed", "flow/w2", "policy/entropy", "policy/alpha"},
    "soft-q": {"flow/kl_speed"},
    "wgf-sac": {"flow/kl_speed", "flow/w2_speed", "flow/w2", "flow/w2_scale", "policy/entropy", "policy/alpha"},
}
MODULE = """
import ctypes, os, time
import gymnasium as gym, numpy as np

def lock():
    mutex, library = ctypes.create_string_buffer(64), ctypes.CDLL(None)
    library.pthread_mutex_lock(mutex), library.pthread_mutex_lock(mutex)  # for good, where no signal reaches Python

class Task(gym.Env):
    observation_space = gym.spaces.Box(-1.0, 1.0, (2,), np.float32)
    action_space = gym.spaces.Box(-1.0, 1.0, (1,), np.float32)
    steps = 0
    def __init__(self, fault=None): self.fault = fault
    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        if self.fault == "reset": raise RuntimeError("no fuel")
        return np.zeros(2, np.float32), {}
    def step(self, action):
        Task.steps += 1
        if self.fault == "hang" and Task.steps == 40:
            print(os.getpid(), file=open("hangs", "w"), flush=True)
            time.sleep(600.0)
        if self.fault is True and Task.steps == 40: raise RuntimeError("the gearbox broke")
        if self.fault == "lock" and Task.steps == 58 and os.path.exists("lock"): lock()
        return np.zeros(2, np.float32), np.ones(1) if self.fault == "reward" else 1.0, False, False, {}

gym.register("Fine-v0", entry_point=Task, max_episode_steps=10)
gym.register("Stuck-v0", entry_point=Task, max_episode_steps=10, kwargs={"fault": "reset"})
gym.register("Breaks-v0", entry_point=Task, max_episode_steps=10, kwargs={"fault": True})
gym.register("Hangs-v0", entry_point=Task, max_episode_steps=10, kwargs={"fault": "hang"})
gym.register("Locks-v0", entry_point=Task, max_episode_steps=10, kwargs={"fault": "lock"})
gym.register("Rewards-v0", entry_point=Task, max_episode_steps=10, kwargs={"fault": "reward"})
"""


@pytest.mark.parametrize("agent", list(OWN_TAGS))
def test_a_run_leaves_its_folder_and_agents_share_their_tags(person, tiny, agent):
    code, out, err = person("train", agent, "--env", "InvertedPendulum-v5", "--seeds", 2, *tiny)
    assert (code, err) == (0, "")
    assert "replay: 2 x 122 rows of 4 + 1 + 2 numbers = 0.0 MiB on cpu" in out
    assert "seeds 0, 1, 60 steps each, cpu, 1 thread" in out
    assert [p.name for p in person.folder.iterdir()] == ["runs"]
    for seed in (0, 1):
        folder = person.folder / "runs" / "main" / "InvertedPendulum-v5" / agent / f"seed-{seed}"
        names = {p.name for p in folder.iterdir() if "tfevents" not in p.name}
        files = {"config.json", "metrics.csv", "policy-60.safetensors", "policy.json", "best", "result.json", ".lock"}
        assert names == files | ({"training"} if seed == 0 else set())
        events = EventAccumulator(str(folder))
        events.Reload()
        assert set(events.Tags()["scalars"]) >= SHARED_TAGS | OWN_TAGS[agent]
        with open(folder / "metrics.csv", newline="") as f:
            rows = list(csv.DictReader(f))
        for tag in events.Tags()["scalars"]:
            shown = [(e.step, e.value) for e in events.Scalars(tag)]
            kept = [(int(r["step"]), float(r["value"])) for r in rows if r["tag"] == tag]
            assert [step for step, _ in shown] == [step for step, _ in kept]
            assert [value for _, value in shown] == pytest.approx([value for _, value in kept], rel=1e-6)
        assert [e.step for e in events.Scalars("eval/return")] == [30, 60]
        assert [e.step for e in events.Scalars("losses/q")] == [30, 45, 60]


def test_the_configuration_says_all_that_a_result_depends_on(person, tiny):
    person("train", "sac", "--env", "InvertedPendulum-v5", "--first-seed", 7, "--threads", 2, "--name", "try", "--out", "deep/er", *tiny)
    config = json.loads((person.folder / "deep/er/try/InvertedPendulum-v5/sac/seed-7/config.json").read_text())
    assert config["config"] == {
        "hidden": [8, 8], "activation": "tanh", "batch": 8, "envs": 1, "n_step": 1, "lr": 3e-4, "gamma": 0.99, "tau": 0.01,
        "components": 4, "regularization": 0.001, "reward_scale": 1.0, "network": "mlp", "expansion": 4, "norm": "batch", "unit": True,
        "atoms": 1, "bound": 5.0, "lr_fall": 0,
    }  # fmt: skip
    assert config["schedule"] == {
        "steps": 60, "warmup": 20, "replay": 1_000_000, "log_every": 15, "eval_every": 30, "checkpoint_every": 0, "eval_episodes": 2,
        "step_limit": 0.0, "normalize": "none",
    }  # fmt: skip
    assert config.items() >= {"agent": "sac", "preset": "paper", "seed": 7, "device": "cpu", "threads": 2, "backend": "gymnasium"}.items()
    assert config["versions"]["torch"] == torch.__version__.partition("+")[0] or config["versions"]["torch"] == torch.__version__
    assert {"python", "wgflow", "gymnasium", "mujoco", "numpy"} <= set(config["versions"])
    assert config["commit"] is None or len(config["commit"].removesuffix("-dirty")) == 40
    assert torch.get_num_threads() == 2
    torch.set_num_threads(1)


def test_the_paper_preset_scales_the_rewards_of_its_table(person, tiny):
    person("train", "sac", "--env", "Swimmer-v5", *tiny)
    config = json.loads((person.folder / "runs/main/Swimmer-v5/sac/seed-0/config.json").read_text())
    assert config["config"]["reward_scale"] == 100.0


def test_a_run_that_has_finished_stays_as_it_is(person, tiny):
    person("train", "sac", "--env", "InvertedPendulum-v5", *tiny)
    before = {p: p.read_bytes() for p in person.folder.rglob("*") if p.is_file()}
    code, out, err = person("train", "sac", "--env", "InvertedPendulum-v5", *tiny)
    assert (code, err) == (0, "")
    assert out == "runs/main/InvertedPendulum-v5/sac: seed 0 finished before; with more --steps they would go on\n"
    code, _, err = person("train", "sac", "--env", "InvertedPendulum-v5", *tiny, "--lr", 1e-3)
    assert code == 2
    holds = "wgf: runs/main/InvertedPendulum-v5/sac/seed-0 holds a run with config.lr = 0.0003, not 0.001"
    assert err == f"{holds}; give another --name or --out\n"
    assert {p: p.read_bytes() for p in person.folder.rglob("*") if p.is_file()} == before


def test_envpool_trains_and_evaluates(person, tiny):
    pytest.importorskip("envpool")
    code, out, err = person("train", "sac", "--env", "InvertedPendulum-v5", "--backend", "envpool", *tiny)
    assert (code, err) == (0, "")
    assert "environments of backend envpool leave no checkpoint: a run that is stopped has to begin anew\n" in out
    code, out, _ = person("eval", "runs/main/InvertedPendulum-v5/sac/seed-0", "--episodes", 2)
    assert code == 0
    assert "over 2 episodes" in out


@pytest.mark.parametrize(
    ("args", "words"),
    [
        ([], "train needs an agent first, as in: wgf train dp-wgf-v --env Hopper-v5 (see wgf agents)"),
        (["--env", "Hopper-v5"], "train needs an agent first"),
        (["sacc"], "agent 'sacc' is unknown; choose from ddpg, dp-wgf, dp-wgf-v, es, ip-wgf, "),
        (["sacc"], "trpo, wgf-sac, wnpg, wpo (did you mean 'sac'?)"),
        (["sac", "--preset", "papre"], "preset 'papre' is unknown to sac; choose from paper, modern, strong, strong-small (did you mean"),
        (["sac", "--stesp", "5"], "option --stesp is unknown; did you mean --steps or --n-step? (see wgf train sac --help)"),
        (["sac", "more"], "argument 'more' is not understood (see wgf train sac --help)"),
        (["sac", "--steps", "1e5"], "--steps is '1e5'; it must be a whole number"),
        (["sac", "--steps", "0"], "steps is 0; it must be at least 1"),
        (["sac", "--steps"], "--steps needs a value (see wgf train sac --help)"),
        (["sac", "--lr", "fast"], "--lr is 'fast'; it must be a number"),
        (["sac", "--lr", "0"], "lr is 0.0; it must be above 0"),
        (["sac", "--tau", "2"], "tau is 2.0; it must be above 0, at most 1"),
        (["sac", "--gamma", "1.5"], "gamma is 1.5; it must be from 0 to 1"),
        (["sac", "--seeds", "0"], "seeds is 0; it must be at least 1"),
        (["sac", "--first-seed", "-1"], "first-seed is -1; seeds must lie from 0 to 999,999"),
        (["sac", "--threads", "-1"], "threads is -1; it must be from 0 to "),
        (["sac", "--eval-episodes", "0"], "eval_episodes is 0; it must be at least 1"),
        (["sac", "--device", "gpu"], "device 'gpu' is unknown; use auto, cpu, cuda or cuda:N"),
        (["sac", "--device", "cuda:99"], "device 'cuda:99' is not available"),
        (["sac", "--backend", "brax"], "--backend is 'brax'; choose from 'gymnasium', 'async', 'envpool', 'warp'"),
        (["sac", "--name", "a/b"], "name is 'a/b'; it must be the name of one folder"),
        (["dp-wgf", "--w2", "none"], "--w2 is 'none'; choose from 'common_noise', "),
        (["dp-wgf-v", "--particles", "30"], "particles is 30; it must be a multiple of components, 4"),
        (["sac", "--env", "Hoper-v5"], "did you mean 'Hopper-v5'?"),
        (["sac", "--env", "CartPole-v1"], "environment 'CartPole-v1' has Discrete(2) actions"),
        (["sac", "--env", "Humanoid-v5", "--steps", "100000000", "--replay", "100000000"], "give a smaller --replay or fewer --seeds"),
    ],
)
def test_what_cannot_be_done_is_one_line(person, args, words):
    code, _, err = person("train", *args)
    assert code == 2
    assert words in err
    assert err.startswith("wgf: ")
    assert err.count("\n") == 1
    assert list(person.folder.iterdir()) == []


def test_an_output_that_cannot_be_written_is_one_line(person, tiny):
    (person.folder / "runs").write_text("a file")
    code, _, err = person("train", "sac", "--env", "InvertedPendulum-v5", *tiny)
    assert code == 2
    assert err == "wgf: runs/main/InvertedPendulum-v5/sac cannot be written: Not a directory; write to another folder\n"


def test_a_task_of_ones_own_lies_where_the_person_is(person, tiny):
    (person.folder / "my_task.py").write_text(MODULE)
    code, _, err = person("train", "sac", "--env", "my_task:Fine-v0", *tiny)
    assert (code, err) == (0, "")
    run = "runs/main/my_task:Fine-v0/sac/seed-0"
    assert person("eval", run, "--episodes", 1, "--env", "my_task:Fine-v0")[1].endswith("returns: 10.0\n")
    code, _, err = person("eval", run, "--episodes", 1)
    assert (code, err.count("\n")) == (2, 1)
    assert "its env is 'my_task:Fine-v0', and no file makes this program import a module: name it yourself, by --env my_task:Fine-v0" in err
    assert person("resume", run, "--steps", 80)[0] == 2
    assert person("resume", run, "--steps", 80, "--env", "my_task:Fine-v0")[0] == 0
    assert "step 80: " in person("eval", run, "--episodes", 1, "--env", "my_task:Fine-v0")[1]
    code, _, err = person("train", "sac", "--env", "my_task:Stuck-v0", *tiny)
    assert (code, err) == (2, "wgf: environment 'my_task:Stuck-v0' raised RuntimeError: no fuel\n")
    assert not (person.folder / "runs" / "main" / "my_task:Stuck-v0").exists()


def test_an_environment_that_raises_is_one_line_and_exit_70(script, tiny, tmp_path):
    (tmp_path / "my_task.py").write_text(MODULE)
    process = script("train", "sac", "--env", "my_task:Breaks-v0", "--seeds", 3, "--eval-every", 1000, *tiny[:-6])
    _, err = process.communicate(timeout=300)
    assert process.returncode == 70
    assert err == (
        "wgf: runs/main/my_task:Breaks-v0/sac, seed 2 failed: environment 'my_task:Breaks-v0' raised RuntimeError: "
        "the gearbox broke at step 13; the last saved policy is kept\n"  # the 40th step of all, of which one came before the training
    )


def test_an_environment_that_hangs_ends_by_its_limit_and_the_run_goes_on(person, script, tiny, tmp_path):
    (tmp_path / "my_task.py").write_text(MODULE)
    run = ["train", "sac", "--env", "my_task:Locks-v0", *tiny, "--checkpoint-every", 10, "--step-limit", 1]
    (tmp_path / "lock").touch()
    process = script(*run)
    _, err = process.communicate(timeout=300)
    assert process.returncode == 70
    assert err == (
        "wgf: environment 'my_task:Locks-v0' did not come back from step() within three times the limit of 1 s and cannot be interrupted: "
        "the process ends; the same command goes on from the last checkpoint\n"
    )
    (tmp_path / "lock").unlink()
    code, out, err = person(*run)
    assert (code, err) == (0, "")
    assert "60 steps each, from step 30 on" in out


def test_an_answer_of_an_environment_that_agents_cannot_use_is_one_line_and_leaves_no_file(person, tiny):
    (person.folder / "my_task.py").write_text(MODULE)
    code, _, err = person("train", "sac", "--env", "my_task:Rewards-v0", *tiny)
    says = "returned an array of shape (1,) and type float64 as a reward; it must be a number"
    assert (code, err) == (2, f"wgf: environment 'my_task:Rewards-v0' {says}\n")
    assert not (person.folder / "runs").exists()


def test_a_full_disk_is_one_line_and_exit_70(script, tiny):
    """Files may grow to 9 KiB: the policy fits, the metrics of the whole training do not."""

    def limit():
        resource.setrlimit(resource.RLIMIT_FSIZE, (9 << 10, resource.RLIM_INFINITY))

    process = script(
        "train", "sac", "--env", "InvertedPendulum-v5", *tiny, "--steps", 5000, "--hidden", 2, "--log-every", 5, preexec_fn=limit
    )
    _, err = process.communicate(timeout=300)
    assert process.returncode == 70
    assert err.endswith("cannot be written: File too large; the last saved policy is kept\n")
    assert err.count("\n") == 1


def test_a_machine_without_a_home_a_network_or_a_display_trains_and_draws(script, tiny, tmp_path):
    """/proc takes no file, whoever asks; the address of the proxy is nobody's."""
    nothing = dict.fromkeys(("http_proxy", "https_proxy", "HTTP_PROXY", "HTTPS_PROXY"), "http://127.0.0.1:9")
    nothing |= {"HOME": "/proc", "XDG_CACHE_HOME": "/proc", "XDG_CONFIG_HOME": "/proc", "DISPLAY": "", "CUDA_VISIBLE_DEVICES": ""}
    options = [part for part in tiny if part not in ("--hidden", "8,8", "--batch", "8")]
    agents = ["--agents", "sac:hidden=8,8:batch=8"]
    process = script("compare", "--env", "InvertedPendulum-v5", "--seeds", 1, *agents, *options, env=nothing)
    _, err = process.communicate(timeout=300)
    assert process.returncode == 0, err
    assert (tmp_path / "runs" / "main" / "InvertedPendulum-v5" / "compare.png").read_bytes()[:4] == b"\x89PNG"
    assert "Traceback" not in err


PROMISE = "every seed is saved after this step, then the run stops; Ctrl-C again stops at once"


def running(process, folder, file="metrics.csv", tag=b"losses/q"):
    """Waits until a training has logged a tag, or an environment has written something."""
    deadline = time.monotonic() + 300
    while time.monotonic() < deadline and not ((folder / file).exists() and tag in (folder / file).read_bytes()):
        assert process.poll() is None
        time.sleep(0.05)


@pytest.mark.parametrize(("name", "shown"), [("SIGTERM", "SIGTERM"), ("SIGINT", "Ctrl-C"), ("SIGUSR1", "SIGUSR1")])
def test_a_signal_saves_the_policy_and_closes_the_log(script, tiny, tmp_path, name, shown):
    process = script(
        "train", "dp-wgf-v", "--env", "InvertedPendulum-v5", "--seeds", 2, *tiny, "--steps", 1_000_000, "--eval-every", 1_000_000,
        "--compile", False,
    )  # fmt: skip
    folders = [tmp_path / "runs" / "main" / "InvertedPendulum-v5" / "dp-wgf-v" / f"seed-{k}" for k in (0, 1)]
    running(process, folders[0])
    process.send_signal(getattr(signal, name))
    _, err = process.communicate(timeout=300)
    assert process.returncode == 75
    ending = "runs/main/InvertedPendulum-v5/dp-wgf-v, seeds 0, 1 interrupted; the same command goes on from here"
    assert err == f"wgf: {shown}: {PROMISE}\nwgf: {ending}\n"
    for folder in folders:
        ended = json.loads((folder / "result.json").read_text())
        assert ended["status"] == "interrupted"
        about, _ = checkpoint.load(folder)
        assert about["step"] == ended["step"] > 0
        with open(folder / "metrics.csv", newline="") as f:
            last = [int(row["step"]) for row in csv.DictReader(f) if row["tag"] == "losses/q"][-1]
        assert ended["step"] - 15 < last <= ended["step"]  # --log-every 15
        events = EventAccumulator(str(folder))
        events.Reload()
        assert events.Scalars("losses/q")[-1].step == last
    assert not list(tmp_path.rglob(".*.tmp"))


@pytest.mark.parametrize(
    ("backend", "first", "second"),
    [("gymnasium", "SIGINT", "SIGINT"), ("gymnasium", "SIGHUP", "SIGTERM"), ("async", "SIGINT", "SIGINT")],
)
def test_a_second_signal_stops_at_once_even_where_a_step_hangs_and_leaves_a_result(script, tiny, tmp_path, backend, first, second):
    (tmp_path / "my_task.py").write_text(MODULE)
    options = ["--backend", backend, "--eval-every", 1000]
    process = script("train", "sac", "--env", "my_task:Hangs-v0", *tiny, *options, start_new_session=True)
    folder = tmp_path / "runs" / "main" / "my_task:Hangs-v0" / "sac" / "seed-0"
    running(process, tmp_path, "hangs", b"\n")
    os.killpg(process.pid, getattr(signal, first))  # as a terminal does
    assert PROMISE in process.stderr.readline()
    os.killpg(process.pid, getattr(signal, second))
    _, err = process.communicate(timeout=300)
    assert (process.returncode, err) == (75, "wgf: stopped\n")
    assert not Path(f"/proc/{(tmp_path / 'hangs').read_text().strip()}").exists()  # a process of the environment, too
    ended = json.loads((folder / "result.json").read_text())
    assert ended["status"] == "interrupted"
    assert checkpoint.load(folder)[0]["step"] <= ended["step"]


def test_a_terminal_that_hangs_up_twice_is_waited_for_and_nohup_holds(script, tiny, tmp_path):
    def nohup():
        signal.signal(signal.SIGHUP, signal.SIG_IGN)

    before = signal.signal(signal.SIGHUP, signal.SIG_DFL)  # these tests themselves may run under nohup
    try:
        with stop_signals("it stops") as stopping:
            signal.raise_signal(signal.SIGHUP)
            signal.raise_signal(signal.SIGHUP)
            assert stopping()
    finally:
        signal.signal(signal.SIGHUP, before)
    process = script("train", "sac", "--env", "InvertedPendulum-v5", *tiny, "--steps", 2000, preexec_fn=nohup)
    running(process, tmp_path / "runs/main/InvertedPendulum-v5/sac/seed-0")
    process.send_signal(signal.SIGHUP)
    assert process.communicate(timeout=300)[1] == ""
    assert process.returncode == 0


def test_a_terminal_shows_a_bar_and_a_pipe_plain_lines(script, tiny):
    options = ("train", "sac", "--env", "InvertedPendulum-v5", *tiny)
    plain, _ = script(*options, "--name", "plain").communicate(timeout=300)
    assert "sac  60/60  " in plain
    assert "\x1b" not in plain
    main, side = pty.openpty()
    process = script(*options, "--name", "bar", stdout=side, stderr=side, env={"TERM": "xterm", "COLUMNS": "120"})
    os.close(side)
    shown = b""
    try:
        while chunk := os.read(main, 4096):
            shown += chunk
    except OSError:  # the terminal is gone with the process
        pass
    assert process.wait(timeout=300) == 0
    text = shown.decode()
    assert "\x1b[" in text
    assert "60/60" in text
    assert "steps/s" in text
    assert "left" in text


def test_without_a_compiler_a_training_says_so_in_one_line_and_runs_as_it_is(script, tiny, tmp_path):
    nowhere = {"CXX": str(tmp_path / "g++"), "TORCHINDUCTOR_CACHE_DIR": str(tmp_path / "cache")}
    process = script("train", "ddpg", "--env", "InvertedPendulum-v5", *tiny, "--compile", "True", env=nowhere)
    _, err = process.communicate(timeout=300)
    assert process.returncode == 0
    assert err.startswith("wgf: not compiled: ")
    assert err.count("\n") == 1
    config = json.loads((tmp_path / "runs/main/InvertedPendulum-v5/ddpg/seed-0/config.json").read_text())
    assert config["compile"] is True
    ended = json.loads((tmp_path / "runs/main/InvertedPendulum-v5/ddpg/seed-0/result.json").read_text())
    assert ended["health"] == {"updates_not_compiled": 1}


def test_the_same_command_goes_on_and_more_steps_train_a_finished_run_on(person, tiny):
    args = ("train", "sac", "--env", "InvertedPendulum-v5", "--seeds", 2, *tiny)
    person(*args)
    folders = [person.folder / "runs" / "main" / "InvertedPendulum-v5" / "sac" / f"seed-{k}" for k in (0, 1)]
    metrics = [(folder / "metrics.csv").read_bytes() for folder in folders]
    for folder in folders:
        (folder / "result.json").unlink()  # it died
    code, out, err = person(*args)
    assert (code, err) == (0, "")
    assert "sac on InvertedPendulum-v5: seeds 0, 1, 60 steps each, from step 60 on, cpu, 1 thread" in out
    assert [(folder / "metrics.csv").read_bytes() for folder in folders] == metrics
    code, out, err = person(*args, "--steps", 90)
    assert (code, err) == (0, "")
    assert "90 steps each, from step 60 on" in out
    for folder, before in zip(folders, metrics, strict=True):
        assert (folder / "metrics.csv").read_bytes().startswith(before)
        assert json.loads((folder / "result.json").read_text()).items() >= {"status": "finished", "step": 90}.items()
        assert checkpoint.load(folder)[0]["step"] == 90
    code, _, err = person(*args)
    holds = "wgf: runs/main/InvertedPendulum-v5/sac/seed-0 holds a run with schedule.steps = 90, not 60"
    assert (code, err) == (2, f"{holds}; give another --name or --out\n")


def test_a_run_goes_on_with_its_own_threads_and_other_threads_are_another_run(person, tiny):
    args = ("train", "sac", "--env", "InvertedPendulum-v5", *tiny)
    try:
        assert person(*args, "--threads", 2)[0] == 0
        code, out, err = person(*args, "--steps", 80)
        assert (code, err) == (0, "")
        assert "from step 60 on, cpu, 2 threads" in out
        code, _, err = person(*args, "--steps", 90, "--threads", 1)
        holds = "wgf: runs/main/InvertedPendulum-v5/sac/seed-0 holds a run with threads = 2, not 1"
        assert (code, err) == (2, f"{holds}; give the same, or another --name or --out\n")
        assert person(*args, "--steps", 80, "--threads", 1)[0] == 0  # nothing is trained
    finally:
        torch.set_num_threads(1)


def test_a_run_is_resumed_by_its_folder(person, tiny):
    person("train", "dp-wgf-v", "--env", "InvertedPendulum-v5", "--seeds", 2, *tiny)
    run = "runs/main/InvertedPendulum-v5/dp-wgf-v/seed-1"
    code, out, err = person("resume", run, "--steps", 80)
    assert (code, err) == (0, "")
    assert "dp-wgf-v on InvertedPendulum-v5: seeds 0, 1, 80 steps each, from step 60 on" in out
    for k in (0, 1):
        folder = person.folder / run.replace("seed-1", f"seed-{k}")
        assert json.loads((folder / "result.json").read_text()).items() >= {"status": "finished", "step": 80}.items()
    config = json.loads((person.folder / run / "config.json").read_text())
    assert config["config"]["hidden"] == [8, 8]
    assert config["schedule"]["steps"] == 80


def test_what_cannot_be_resumed_is_one_line(person, tiny):
    code, _, err = person("resume", "nowhere")
    assert code == 2
    assert err == "wgf: nowhere/config.json cannot be read: No such file or directory; " + checkpoint.A_RUN + "\n"
    person("train", "sac", "--env", "InvertedPendulum-v5", "--seeds", 2, *tiny)
    agent = person.folder / "runs" / "main" / "InvertedPendulum-v5" / "sac"
    code, _, err = person("train", "sac", "--env", "InvertedPendulum-v5", "--seeds", 1, *tiny, "--steps", 90)
    assert code == 2
    assert err == "wgf: runs/main/InvertedPendulum-v5/sac holds seeds 0, 1 as one stack, which goes on as a whole: give these seeds\n"
    with FileLock(agent / "seed-0" / ".lock"):
        code, _, err = person("resume", agent / "seed-0")
    assert code == 2
    assert err == f"wgf: {agent / 'seed-0'} is being written by another process; wait for it\n"
    before = (agent / "seed-0" / "config.json").read_bytes()
    code, _, err = person("resume", agent / "seed-0", "--steps", 40)
    assert code == 2
    assert err == f"wgf: steps is 40; {agent / 'seed-0'} is at step 60: give more, or leave --steps out\n"
    assert (agent / "seed-0" / "config.json").read_bytes() == before
    config = checkpoint.read_sealed(agent / "seed-0" / "config.json")
    for change in ({"threads": 0}, {"threads": 10**9}, {"schedule": [60]}, {"stack": [[0, 1]]}, {"stack": []}, {"schedule": {"steps": 0}}):
        checkpoint.write_sealed(agent / "seed-0" / "config.json", config | change)
        code, _, err = person("resume", agent / "seed-0")
        assert code == 2
        assert "seed-0/config.json does not say which seeds, threads and steps: it was not written by wgf train\n" in err
    checkpoint.write_sealed(agent / "seed-0" / "config.json", config)
    shutil.rmtree(agent / "seed-0" / "training")
    code, _, err = person("resume", agent / "seed-0")
    assert code == 2
    assert err == f"wgf: {agent / 'seed-0' / 'training'} holds no checkpoint: train again in another folder\n"
    code, _, err = person("train", "sac", "--env", "InvertedPendulum-v5", "--seeds", 2, *tiny, "--steps", 90)
    assert code == 2
    assert "seed-0 has finished and left no checkpoint to go on from; give another --name or --out" in err
