"""The wheel and the source distribution hold what they should, and work where nothing else of the project is."""

import os
import re
import shutil
import subprocess
import sys
import tarfile
import tomllib
import zipfile
from pathlib import Path

import pytest

import wgf

ROOT = Path(__file__).parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
NEIGHBOURS = ("agents", "policies", "runs")  # names that other distributions may own
SCRIPT = """
import torch

from wgf import flow, svgd, transport
from wgf.agents import sac

scheme = flow.jko(lambda x: -x, h=0.5, lr=0.1, inner_steps=2, kl=svgd.velocity, w2=transport.debiased)
particles: torch.Tensor = scheme.step(scheme.init(torch.zeros(4, 2))).x
rate: float = sac.Config().gamma
"""
WRONG = "from wgf import flow\n\nflow.jko(1, h=0.5, lr=0.1, inner_steps=2)\n"


def call(*command, cwd):
    """What a command prints, run without this process's paths; a failure shows its output."""
    env = {k: v for k, v in os.environ.items() if not k.startswith(("PYTHON", "MYPY"))} | {"OMP_NUM_THREADS": "1"}
    done = subprocess.run(list(map(str, command)), cwd=cwd, env=env, text=True, capture_output=True)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def environment(folder):
    """The Python of a new virtual environment that finds the packages of this one and, unlike it, no ``wgf``."""
    call(sys.executable, "-m", "venv", "--without-pip", folder, cwd=ROOT)
    python = folder / "bin" / "python"
    site = Path(call(python, "-c", "import sysconfig; print(sysconfig.get_path('purelib'))", cwd=folder).strip())
    installed = [p for p in sys.path if Path(p).name in ("site-packages", "dist-packages")]
    (site / "others.pth").write_text("\n".join(installed) + "\n")
    for name in NEIGHBOURS:
        (site / name).mkdir()
        (site / name / "__init__.py").write_text(f"OWNER = 'the other {name}'\n")
    return python


def install(python, *what, cwd):
    call(python, "-m", "pip", "install", "-q", "--no-deps", "--no-index", "--no-build-isolation", "--ignore-installed", *what, cwd=cwd)


@pytest.fixture(scope="module")
def tracked():
    """The files that git knows; a source distribution, where there is no git, tests no more of this."""
    if not (ROOT / ".git").exists():
        pytest.skip("not a git checkout")
    return [Path(name) for name in call("git", "ls-files", "-z", cwd=ROOT).split("\0") if name and os.path.lexists(ROOT / name)]


@pytest.fixture(scope="module")
def checkout(tracked, tmp_path_factory):
    """A copy of the tracked files, links kept, and of nothing else."""
    copy = tmp_path_factory.mktemp("checkout")
    for name in tracked:
        (copy / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(ROOT / name, copy / name, follow_symlinks=False)
    return copy


@pytest.fixture(scope="module")
def built(checkout, tmp_path_factory):
    """(wheel, source distribution)."""
    out = tmp_path_factory.mktemp("dist")
    build = f"from setuptools import build_meta as b; b.build_sdist({str(out)!r}); b.build_wheel({str(out)!r})"
    call(sys.executable, "-c", build, cwd=checkout)
    return next(out.glob("*.whl")), next(out.glob("*.tar.gz"))


@pytest.fixture(scope="module")
def wheel(built):
    return built[0]


@pytest.fixture(scope="module")
def unpacked(built, tmp_path_factory):
    """The source distribution's folder."""
    folder = tmp_path_factory.mktemp("source")
    with tarfile.open(built[1]) as archive:
        archive.extractall(folder, filter="data")
    return next(folder.iterdir())


@pytest.fixture(scope="module")
def person(wheel, tmp_path_factory):
    """The Python of somebody who has installed the wheel."""
    folder = tmp_path_factory.mktemp("person")
    python = environment(folder / "venv")
    install(python, wheel, cwd=folder)
    return python


@pytest.fixture(scope="module")
def developer(checkout, tmp_path_factory):
    """The Python of somebody who has installed a checkout so that it can be edited."""
    folder = tmp_path_factory.mktemp("developer")
    python = environment(folder / "venv")
    install(python, "--editable", checkout, cwd=folder)
    return python


def modules(tracked):
    """Where a wheel has each tracked module and model: those of the root's folders under wgf/, by way of its links."""
    links = [name for name in tracked if (ROOT / name).is_symlink() and name.parent == Path("wgf")]
    roots = {os.readlink(ROOT / name).removeprefix("../"): name for name in links} | {"wgf": Path("wgf")}
    return {
        roots[name.parts[0]].joinpath(*name.parts[1:]).as_posix()
        for name in tracked
        if name.parts[0] in roots and name.suffix in (".py", ".typed", ".xml")
    }


def test_a_wheel_holds_every_module_and_nothing_beside_them(wheel, tracked):
    held = set(zipfile.ZipFile(wheel).namelist())
    about = {name for name in held if name.startswith(f"wgflow-{wgf.__version__}.dist-info/")}
    assert held - about == modules(tracked)
    assert {"wgf/py.typed", "wgf/agents/sac.py", "wgf/policies/gaussian.py", "wgf/runs/__init__.py"} <= held


def test_a_wheel_says_whose_it_is_and_of_what_kind(wheel):
    text = zipfile.ZipFile(wheel).read(f"wgflow-{wgf.__version__}.dist-info/METADATA").decode()
    head, _, body = text.partition("\n\n")
    assert "Author: The wgf authors" in head
    assert "Typing :: Typed" in head
    assert "Home-page" not in head
    assert "Project-URL" not in head
    assert body.strip() == (ROOT / "README.md").read_text().strip()


def test_constraints_name_versions_and_no_index():
    lines = (ROOT / "constraints.txt").read_text().splitlines()
    assert all(re.fullmatch(r"[\w.-]+==[\w.]+", line) for line in lines)
    assert len(lines) == len({line.partition("==")[0].lower() for line in lines})


def test_a_wheel_trains_beside_packages_that_own_the_names_agents_policies_and_runs(person, tmp_path):
    (folder := tmp_path / "empty").mkdir()
    args = ("--env", "Pendulum-v1", "--steps", 60, "--warmup", 20, "--batch", 8, "--hidden", 8, "--eval-every", 60, "--eval-episodes", 1)
    call(person.with_name("wgf"), "train", "sac", *args, "--out", "found", cwd=folder)
    (policy,) = folder.rglob("seed-0/policy-*.safetensors")
    assert policy.parent == folder / "found" / "main" / "Pendulum-v1" / "sac" / "seed-0"
    code = "import agents, policies, runs, wgf; print(agents.OWNER, policies.OWNER, runs.OWNER, wgf.__file__, sep='|')"
    *owners, file = call(person, "-c", code, cwd=folder).strip().split("|")
    assert owners == [f"the other {name}" for name in NEIGHBOURS]
    assert Path(file).is_relative_to(person.parents[1])


@pytest.mark.parametrize("how", ["person", "developer"])
def test_the_version_is_that_of_the_code_and_of_the_distribution(how, request, tmp_path):
    code = "import importlib.metadata as m, wgf; print(wgf.__version__, m.version('wgflow'))"
    assert call(request.getfixturevalue(how), "-c", code, cwd=tmp_path).split() == [wgf.__version__] * 2


def test_a_checkout_that_is_not_installed_has_a_version(checkout, tmp_path):
    python = environment(tmp_path / "venv")
    assert call(python, "-c", "import wgf; print(wgf.__version__)", cwd=checkout).strip() == wgf.__version__


@pytest.mark.parametrize("how", ["person", "developer"])
def test_a_users_script_type_checks(how, request, tmp_path):
    (tmp_path / "script.py").write_text(SCRIPT)
    (tmp_path / "wrong.py").write_text(WRONG)
    python, cache = request.getfixturevalue(how), request.config.cache.mkdir("mypy")
    check = [sys.executable, "-m", "mypy", "--strict", "--config-file=", f"--python-executable={python}", f"--cache-dir={cache}"]
    done = subprocess.run([*check, "script.py", "wrong.py"], cwd=tmp_path, text=True, capture_output=True)
    assert 'wrong.py:3: error: Argument 1 to "jko" has incompatible type "int"' in done.stdout
    assert "Found 1 error in 1 file (checked 2 source files)" in done.stdout


def test_an_installed_package_of_the_same_name_comes_before_a_folder_of_the_checkout(developer, tmp_path):
    assert call(developer, "-c", "import agents; print(agents.OWNER)", cwd=tmp_path).strip() == "the other agents"


def test_a_source_distribution_runs_its_tests(unpacked, tracked, tmp_path):
    python = environment(tmp_path / "venv")
    few = ("tests/policies/test_squash.py", "tests/agents/training/test_descent.py")
    assert re.search(r"^\d+ passed", call(python, "-m", "pytest", "-p", "no:cacheprovider", *few, cwd=unpacked), re.MULTILINE)
    tests = {name for name in tracked if name.parts[0] in ("tests", "docs", "examples")}
    assert all((unpacked / name).is_file() for name in tests)


def test_a_wheel_of_a_source_distribution_is_that_of_the_checkout(unpacked, wheel, tmp_path):
    build = f"from setuptools import build_meta as b; b.build_wheel({str(tmp_path)!r})"
    call(sys.executable, "-c", build, cwd=unpacked)
    (again,) = tmp_path.glob("*.whl")
    assert set(zipfile.ZipFile(again).namelist()) == set(zipfile.ZipFile(wheel).namelist())


def test_packages_that_an_error_names_exist():
    """Error lines say ``pip install PACKAGE`` or ``pip install 'wgflow[EXTRA]'``: pyproject.toml names each."""
    from wgf.agents.tasks import EXTRAS

    extras = PROJECT["optional-dependencies"]
    known = {re.split(r"[\[<>=]", want)[0] for wants in (PROJECT["dependencies"], *extras.values()) for want in wants}
    files = [path for room in ("wgf", *NEIGHBOURS) for path in (ROOT / room).rglob("*.py")]
    named = [word for path in files for word in re.findall(r"pip install (?:-e )?['\"]?([\w.-]+(?:\[[^\]]+\])?)", path.read_text())]
    assert {"wgflow[{extra}]", "wgflow[warp]", "envpool", "imageio-ffmpeg"} <= set(named)
    assert set(EXTRAS.values()) <= set(extras)
    for name in named:
        package, extra = re.fullmatch(r"([\w.-]+)(?:\[(.*)\])?", name).groups()
        assert (package in known and extra is None) or (package == PROJECT["name"] and extra in {*extras, "{extra}"}), name
