"""``wgf doctor``: what it says of a machine, and of a run that is planned."""

import re
import shutil
import subprocess
import sys
from importlib.metadata import requires, version

import pytest

from tests.runs.command.test_cli import imports
from tests.runs.conftest import TINY
from wgf.agents.training import needs
from wgf.agents.training.description import Description
from wgf.agents.training.schedule import Schedule
from wgf.runs.command import doctor
from wgf.runs.command.doctor import Finding


def found(check):
    return [str(finding) for finding in check]


def stopped(findings):
    return [finding.found for finding in findings if finding.stops]


def test_each_thing_has_its_line_and_a_machine_that_trains_these_tests_stops_no_run(person):
    code, out, err = person("doctor")
    assert (code, err) == (0, "")
    lines = [line.split() for line in out.splitlines()]
    assert {line[0] for line in lines} <= {"ok", "note"}
    parts = (
        "python",
        "wgf",
        "torch",
        "mujoco",
        "gymnasium",
        "numpy",
        "pot",
        "threads",
        "memory",
        "gpu",
        "pictures",
        "compiler",
        "temporary",
    )
    assert [line[1] for line in lines if line[1] in parts[:7]] == sorted(parts[:7], key=[line[1] for line in lines].index)
    assert {line[1] for line in lines} >= {*parts, "home", "data"}
    assert f"ok    numpy      {version('numpy')}\n" in out
    assert list(person.folder.iterdir()) == []


def test_its_help_imports_nothing_heavy():
    modules, out = imports("doctor", "--help")
    assert not modules & {"torch", "gymnasium", "mujoco"}
    assert out.startswith("usage: wgf doctor [AGENT --env ENV ...]")


def test_a_package_of_a_version_that_is_not_taken_or_that_is_missing_stops(monkeypatch):
    def changed(name):
        if name == "scipy":
            raise doctor.PackageNotFoundError
        return {"mujoco": "4.0.0", "numpy": "1.20"}.get(name) or version(name)

    monkeypatch.setattr(doctor, "version", changed)
    findings = list(doctor.versions())
    assert stopped(findings) == ["4.0.0, and wgf takes <4,>=3.17", "1.20, and wgf takes >=1.26", "is not installed"]
    assert "STOP  mujoco     4.0.0, and wgf takes <4,>=3.17; pip install 'mujoco<4,>=3.17'" in found(findings)
    assert not [need for need in requires("wgflow") if need.startswith("envpool") and "extra" not in need]
    assert not any(finding.what == "envpool" for finding in findings)  # an extra is not needed


def test_another_package_that_wrote_files_of_wgf_stops_and_one_beside_it_is_a_note(tmp_path, monkeypatch):
    monkeypatch.setattr(doctor, "_elsewhere", lambda name, here: None)
    for name, file in (("games", "wgf/game.py"), ("worse", "wgf/__init__.py")):
        (info := tmp_path / f"{name}-0.1.1.dist-info").mkdir()
        (tmp_path / file).parent.mkdir(exist_ok=True)
        (tmp_path / file).touch()  # from Python 3.12 on files that are not there do not count
        (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 0.1.1\n")
        (info / "RECORD").write_text(f"{file},,\n{name}-0.1.1.dist-info/METADATA,,\n")
        (info / "top_level.txt").write_text("wgf\n")
    assert found(doctor.names()) == []
    monkeypatch.syspath_prepend(str(tmp_path))
    advice = "then install wgflow again, with pip's --force-reinstall --no-deps"
    assert sorted(found(doctor.names())) == [
        f"STOP  names      worse has a package wgf too, and both wrote wgf/__init__.py; pip uninstall worse, {advice}",
        f"note  names      games has a package wgf too; pip uninstall games, {advice}",
    ]


def test_a_module_of_this_folder_that_hides_an_installed_one_is_a_note(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "mine.py").write_text("")
    (tmp_path / "numpy").mkdir()
    assert found(doctor.names()) == []
    (tmp_path / "random.py").write_text("")
    (tmp_path / "numpy" / "__init__.py").write_text("")
    lines = found(doctor.names())
    assert [line.split()[2] for line in lines] == ["numpy", "random.py"]
    assert all(line.startswith("note ") and "rename it: python -m, started here, takes this one" in line for line in lines)


def test_threads_that_spin_or_are_too_many_are_noted(monkeypatch):
    import torch

    monkeypatch.setenv("GOMP_SPINCOUNT", "0")
    monkeypatch.delenv("OMP_WAIT_POLICY", raising=False)
    monkeypatch.setattr("wgf.agents.training.machine.cores", torch.get_num_threads)
    assert {line.split()[0] for line in found(doctor.threads())} == {"ok"}
    monkeypatch.setattr("wgf.agents.training.machine.cores", lambda: torch.get_num_threads() - 1)
    assert found(doctor.threads())[0].endswith("; more threads than processors slow each other down: set OMP_NUM_THREADS")
    for name, value in (("GOMP_SPINCOUNT", "100"), ("OMP_WAIT_POLICY", "active")):
        monkeypatch.setenv("GOMP_SPINCOUNT", "0")
        monkeypatch.setenv(name, value)
        assert found(doctor.threads())[1].endswith("set GOMP_SPINCOUNT=0")


@pytest.mark.parametrize(
    ("code", "line"),
    [
        ("pass", "ok    pictures   MUJOCO_GL egl: a picture was drawn without a display"),
        ("import os; os.kill(os.getpid(), 11)", "note  pictures   MUJOCO_GL egl: the process died with code -11; --video needs MUJOCO_GL="),
        ("raise RuntimeError('no EGL')", "note  pictures   MUJOCO_GL egl: RuntimeError: no EGL; --video needs MUJOCO_GL="),
        (
            "raise RuntimeError('invalid value for environment variable MUJOCO_GL: x')",
            "STOP  pictures   MUJOCO_GL egl: RuntimeError: invalid",
        ),
        ("import time; time.sleep(60)", "note  pictures   MUJOCO_GL egl: no answer within 0.2 seconds; --video needs MUJOCO_GL="),
    ],
)
def test_pictures_are_drawn_in_a_process_that_may_die_or_hang(monkeypatch, code, line):
    monkeypatch.setenv("MUJOCO_GL", "egl")
    if "sleep" in code:
        monkeypatch.setattr(doctor, "PATIENCE", 0.2)
    process = subprocess.Popen([sys.executable, "-c", code], stderr=subprocess.PIPE, text=True)
    assert found(doctor.pictures(process))[0].startswith(line)
    assert process.poll() is not None


def test_a_word_that_mujoco_does_not_take_stops_every_run_in_one_line(script):
    process = script("train", "sac", "--env", "wgf/CartPole-v0", env={"MUJOCO_GL": "vulkan"})
    _, err = process.communicate(timeout=300)
    assert err == "wgf: mujoco cannot be imported: invalid value for environment variable MUJOCO_GL: vulkan; unset MUJOCO_GL\n"
    assert process.returncode == 2


def test_a_compiler_without_pythons_header_is_noted(monkeypatch, tmp_path):
    assert found(doctor.compiler())[0].startswith("ok ")
    monkeypatch.setattr(doctor.sysconfig, "get_paths", lambda: {"include": str(tmp_path)})
    assert found(doctor.compiler())[0].startswith(f"note  compiler   a C++ compiler, but no {tmp_path / 'Python.h'}; ")
    monkeypatch.setenv("CXX", "nothing-compiles")
    monkeypatch.setattr("wgf.compiler.available", lambda: False)
    assert found(doctor.compiler())[0].startswith("note  compiler   no C++ compiler; ")


def test_a_home_or_a_temporary_folder_that_cannot_be_written_is_a_note(monkeypatch):
    monkeypatch.setenv("HOME", "/proc")
    monkeypatch.setattr(doctor.tempfile, "gettempdir", lambda: "/proc")
    monkeypatch.delenv("MPLCONFIGDIR", raising=False)
    temporary, home = found(doctor.folders())
    assert re.fullmatch(r"note  temporary  /proc cannot be written: .*; machine code and downloads need it: set TMPDIR", temporary)
    assert re.fullmatch(r"note  home       /proc cannot be written: .*; figures .*: set MPLCONFIGDIR to a folder that can be written", home)


def test_the_sets_of_wgf_data_are_listed(monkeypatch, tmp_path):
    monkeypatch.setenv("WGF_DATA", str(tmp_path / "none"))
    assert found(doctor.data())[0].startswith(f"note  data       WGF_DATA is '{tmp_path}/none', which is not a folder; wgf bnn-data fetch")
    for name in ("boston/data.txt", "wine/data.txt.gz", "mine/data.txt", "energy/notes.md"):
        (tmp_path / name).parent.mkdir()
        (tmp_path / name).write_text("")
    monkeypatch.setenv("WGF_DATA", str(tmp_path))
    line = found(doctor.data())[0]
    assert line.startswith(
        f"note  data       boston wine in {tmp_path}; wgf bnn-data fetch --data {tmp_path} --sets concrete energy kin8nm "
    )


def test_what_breaks_while_it_is_looked_at_is_what_was_found(person, monkeypatch):
    def broken():
        raise OSError("libcudart.so.13: cannot open shared object file")

    monkeypatch.setattr(doctor, "gpus", broken)
    monkeypatch.setattr(doctor, "_drawing", lambda: subprocess.Popen([sys.executable, "-c", ""], stderr=subprocess.PIPE, text=True))
    code, out, _ = person("doctor")
    assert code == 1
    assert "STOP  gpu        OSError: libcudart.so.13: cannot open shared object file\n" in out
    assert "compiler" in out


@pytest.fixture
def quick(monkeypatch):
    """``wgf doctor`` with what is planned alone."""
    for check in ("versions", "names", "threads", "memory", "gpus", "compiler", "folders", "data"):
        monkeypatch.setattr(doctor, check, list)
    monkeypatch.setattr(doctor, "pictures", lambda process: [])
    monkeypatch.setattr(doctor, "_drawing", lambda: None)


def test_a_run_that_fits_is_described_and_one_that_does_not_stops(person, quick, monkeypatch):
    code, out, _ = person("doctor", "sac", "--env", "wgf/CartPole-v0", "--seeds", "2", *TINY)
    assert code == 0
    lines = out.splitlines()
    assert lines[0] == "ok    run        sac on wgf/CartPole-v0: seeds 0, 1, 60 steps each"
    assert re.fullmatch(r"ok    run        takes 0\.\d MiB of memory, or more, on cpu, where .* are free", lines[1])
    assert re.fullmatch(r"ok    run        writes up to 0\.\d MiB into runs/main/wgf_CartPole-v0/sac, where .* are free", lines[2])
    assert list(person.folder.iterdir()) == []
    huge = person("doctor", "sac", "--env", "Humanoid-v5", "--seeds", "50", "--steps", "100000000", "--replay", "100000000")
    assert huge[0] == 1
    assert re.search(r"STOP  run        takes [\d,.]+ GiB of memory, or more, on cpu, .*; give a smaller --replay", huge[1])
    usage = shutil.disk_usage(".")._replace(free=1000)
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage)
    code, out, _ = person("doctor", "sac", "--env", "wgf/CartPole-v0", *TINY)
    assert code == 1
    assert "where 0.0 MiB are free; give a smaller --replay, or an --out on another disk" in out
    code, out, _ = person("doctor", "sac", "--env", "wgf/CartPole-v0", *TINY, "--out", "/proc/x")
    assert code == 1
    assert "STOP  run        /proc cannot be written: " in out


@pytest.mark.parametrize(
    ("agent", "options"),
    [
        ("sac", ["--checkpoint-every", "40", "--steps", "400", "--replay", "100", "--hidden", "32,32", "--seeds", "2"]),
        ("sac", ["--checkpoint-every", "500", "--steps", "500", "--hidden", "4,4", "--eval-every", "500", "--log-every", "500"]),
        ("ppo", ["--steps", "300", "--hidden", "64,64", "--horizon", "50", "--log-every", "50"]),
    ],
)
def test_a_run_writes_no_more_than_was_foreseen_and_not_much_less(person, agent, options):
    options = [*TINY[4:8], *options] if agent == "sac" else [*options, "--eval-episodes", "1"]
    if "--eval-every" not in options:
        options += ["--eval-every", "100"]
    assert person("train", agent, "--env", "wgf/CartPole-v0", *options)[0] == 0
    (folder,) = (person.folder / "runs" / "main").glob("*/*")
    written = sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
    given = dict(zip(options[::2], options[1::2], strict=True))
    schedule = Schedule(**{f: int(given[o]) for f in vars(Schedule()) if (o := f"--{f.replace('_', '-')}") in given})
    more = {f: int(given[f"--{f}"]) for f in ("batch", "horizon") if f"--{f}" in given}
    hidden = tuple(map(int, given["--hidden"].split(",")))
    seeds = int(given.get("--seeds", 1))
    about = Description(agent, "wgf/CartPole-v0", seeds, "paper", "cpu", "gymnasium", {"hidden": hidden, **more}, {})
    assert written <= needs.disk(about, schedule) <= 4 * written + seeds * needs.LEAST


def test_a_line_says_whether_it_is_well():
    assert str(Finding("a", "b")).startswith("ok ")
    assert str(Finding("a", "b", "do c")) == "note  a          b; do c"
    assert str(Finding("a", "b", "do c", stops=True)) == "STOP  a          b; do c"
