"""Looks at a machine and an installation as a run would find them: a line for each thing, with advice where something is wrong."""

import importlib.util
import os
import platform
import subprocess
import sys
import sysconfig
import tempfile
from collections.abc import Callable, Iterable, Iterator
from importlib.metadata import Distribution, PackageNotFoundError, distribution, packages_distributions, version
from itertools import chain
from pathlib import Path
from typing import NamedTuple

from packaging.requirements import Requirement

import wgf
from wgf.runs.command.answers import FOUND
from wgf.runs.command.options import Fetch

__all__ = ["Finding", "compiler", "data", "examine", "folders", "gpus", "memory", "names", "pictures", "threads", "unwritable", "versions"]

NAME = "wgflow"  # of the distribution
SHOWN = ("torch", "mujoco", "gymnasium", "numpy", "pot")
DRAW = "import mujoco; mujoco.Renderer(mujoco.MjModel.from_xml_string('<mujoco/>'), 16, 16).close()"
PATIENCE = 10  # seconds until a context for pictures must be there
SMALL = 2**30  # bytes of memory that a process with torch and a simulator takes, about
DRIVER = Path("/proc/driver/nvidia/version")


class Finding(NamedTuple):
    """One line: what was looked at, what was found, what to do where that is wrong, and whether it would stop a run."""

    what: str
    found: str
    advice: str = ""
    stops: bool = False

    def __str__(self) -> str:
        mark = "STOP" if self.stops else "note" if self.advice else "ok"
        return f"{mark:5} {self.what:10} {self.found}" + (f"; {self.advice}" if self.advice else "")


def examine(planned: Iterable[Finding], say: Callable[[str], None]) -> int:
    """Says what is found about the machine, then what was found about a run that is planned; returns 1 where something would stop it."""
    drawing = _drawing()
    checks: dict[str, Callable[[], Iterable[Finding]]] = {
        "versions": versions,
        "names": names,
        "threads": threads,
        "memory": memory,
        "gpu": gpus,
        "pictures": lambda: pictures(drawing),
        "compiler": compiler,
        "folders": folders,
        "data": data,
    }
    stops = False
    for finding in chain(chain.from_iterable(_looked(what, check) for what, check in checks.items()), planned):
        say(str(finding))
        stops = stops or finding.stops
    return FOUND if stops else 0


def _looked(what: str, check: Callable[[], Iterable[Finding]]) -> list[Finding]:
    """Returns what a check finds; where it breaks, on an installation that is broken, that is what was found."""
    try:
        return list(check())
    except Exception as error:
        advice = f"install {NAME} again, with pip's --force-reinstall" if isinstance(error, ImportError) else ""
        return [Finding(what, f"{type(error).__name__}: {' '.join(str(error).split())}", advice, stops=True)]


def versions() -> Iterator[Finding]:
    """Looks at the packages that wgf needs: that they are there, and of a version that it takes."""
    yield Finding("python", f"{platform.python_version()} on {platform.system()} {platform.machine()}")
    try:
        whole = distribution(NAME)
    except PackageNotFoundError:
        yield Finding("wgf", f"{wgf.__version__}, not installed", "install it, with pip's --editable from a checkout")
        return
    stale = "" if whole.version == wgf.__version__ else f"it was installed as {whole.version}: install it again"
    yield Finding("wgf", f"{wgf.__version__} in {Path(wgf.__file__).parent}", stale)
    for need in map(Requirement, whole.requires or ()):
        if need.marker is None or need.marker.evaluate({"extra": ""}):
            yield from _required(need)


def _required(need: Requirement) -> Iterator[Finding]:
    """Looks at one package; one that is neither shown nor wrong has no line."""
    fix = f"pip install '{need.name}{need.specifier}'"
    try:
        found = version(need.name)
    except PackageNotFoundError:
        yield Finding(need.name, "is not installed", fix, stops=True)
        return
    fits = need.specifier.contains(found, prereleases=True)
    if not fits:
        yield Finding(need.name, f"{found}, and wgf takes {need.specifier}", fix, stops=True)
    elif need.name in SHOWN:
        yield Finding(need.name, found)


def names() -> Iterator[Finding]:
    """Looks for another package that owns files of wgf, and for modules of this folder that have the name of an installed one."""
    for other in packages_distributions().get("wgf", []):
        if other != NAME:
            shared = sorted(_files(distribution(other)) & (_files(distribution(NAME)) or {"wgf/__init__.py"}))
            what = f"{other} has a package wgf too" + (f", and both wrote {shared[0]}" if shared else "")
            advice = f"pip uninstall {other}, then install {NAME} again, with pip's --force-reinstall --no-deps"
            yield Finding("names", what, advice, stops=bool(shared))
    here = Path.cwd()
    for path in sorted(here.iterdir()) if here != Path(wgf.__file__).parents[1] else ():  # in a checkout of wgf they are its own
        name = path.stem if path.suffix == ".py" else path.name
        if (path.suffix == ".py" or (path / "__init__.py").is_file()) and (installed := _elsewhere(name, here)):
            means = f"python -m, started here, takes this one, and MODULE:NAME takes {installed}"
            yield Finding("names", f"{path.name} in this folder has the name of an installed module", f"rename it: {means}")


def _files(whole: Distribution) -> set[str]:
    return {str(path) for path in whole.files or () if path.parts[0] == "wgf" and path.suffix == ".py"}


def _elsewhere(name: str, here: Path) -> str | None:
    """Returns where a module is that is not of this folder, if there is one."""
    try:
        spec = importlib.util.find_spec(name)
    except (ImportError, ValueError):
        return None
    return None if spec is None or spec.origin is None or Path(spec.origin).is_relative_to(here) else spec.origin


def threads() -> Iterator[Finding]:
    """Looks at how many threads compute, on how many processors, and whether threads that wait spin."""
    import torch

    from wgf.agents.training.machine import cores

    count, free = torch.get_num_threads(), cores()
    many = "more threads than processors slow each other down: set OMP_NUM_THREADS" if count > free else ""
    asked = os.environ.get("OMP_NUM_THREADS")
    yield Finding(
        "threads", f"torch {count}, processors {free}, OMP_NUM_THREADS {asked or 'not set'} (wgf train chooses by --threads)", many
    )
    spins = os.environ.get("OMP_WAIT_POLICY", "").lower() == "active" or os.environ.get("GOMP_SPINCOUNT") != "0"
    policy = f", OMP_WAIT_POLICY {os.environ['OMP_WAIT_POLICY']}" if "OMP_WAIT_POLICY" in os.environ else ""
    advice = "threads that wait take the processor from those that compute: set GOMP_SPINCOUNT=0" if spins else ""
    yield Finding("threads", f"GOMP_SPINCOUNT {os.environ.get('GOMP_SPINCOUNT', 'not set')}{policy}", advice)


def memory() -> Iterator[Finding]:
    """Looks at the memory that is free."""
    import torch

    from wgf.limits import free_memory, size

    free = free_memory(torch.device("cpu"))
    yield Finding("memory", f"{size(free)} free", f"a run takes {size(SMALL)} or more: end what else runs" if free < SMALL else "")


def gpus() -> Iterator[Finding]:
    """Looks at the GPUs that torch can use."""
    import torch

    from wgf.limits import size

    if torch.cuda.is_available():
        for i in range(torch.cuda.device_count()):
            free, whole = torch.cuda.mem_get_info(i)
            yield Finding("gpu", f"cuda:{i} {torch.cuda.get_device_name(i)}, {size(free)} of {size(whole)} free")
    elif DRIVER.exists():
        built = f"for CUDA {torch.version.cuda}" if torch.version.cuda else "without CUDA"
        yield Finding(
            "gpu", f"there is an NVIDIA driver, and torch {torch.__version__}, built {built}, finds no GPU", "install torch for it"
        )
    elif torch.backends.mps.is_available():
        yield Finding("gpu", "mps is there, and wgf computes on cpu and cuda")
    else:
        yield Finding("gpu", "none: everything runs on the CPU")


def _drawing() -> "subprocess.Popen[str]":
    """Starts to draw a picture in a process of its own, which may die of a driver."""
    environment = {"MUJOCO_GL": "egl", **os.environ}
    return subprocess.Popen(
        [sys.executable, "-P", "-c", DRAW], env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True
    )


def pictures(process: "subprocess.Popen[str]") -> Iterator[Finding]:
    """Looks whether a simulation can be drawn without a display, which only ``wgf eval --video`` needs."""
    way = os.environ.get("MUJOCO_GL")
    shown = f"MUJOCO_GL {way}" if way is not None else "MUJOCO_GL not set, so egl"
    try:
        said = process.communicate(timeout=PATIENCE)[1]
    except subprocess.TimeoutExpired:
        process.kill()
        process.communicate()
        said = f"no answer within {PATIENCE} seconds"
    if not process.returncode:
        yield Finding("pictures", f"{shown}: a picture was drawn without a display")
        return
    reason = (said.strip().splitlines() or [f"the process died with code {process.returncode}"])[-1]
    wrong = "invalid value for environment variable MUJOCO_GL" in reason
    advice = (
        "unset it: nothing that simulates starts with it" if wrong else "--video needs MUJOCO_GL=egl or MUJOCO_GL=osmesa, with its library"
    )
    yield Finding("pictures", f"{shown}: {reason}", advice, stops=wrong)


def compiler() -> Iterator[Finding]:
    """Looks for what updates as machine code need."""
    from wgf.compiler import available

    head = Path(sysconfig.get_paths()["include"]) / "Python.h"
    if not available():
        yield Finding("compiler", "no C++ compiler", "updates run as machine code with one, where that is faster: install g++")
    elif not head.exists():
        yield Finding("compiler", f"a C++ compiler, but no {head}", "updates as machine code need it: install python3-dev")
    else:
        yield Finding("compiler", f"C++, so updates can run as machine code; it is kept in {tempfile.gettempdir()}")


def folders() -> Iterator[Finding]:
    """Looks whether the home folder and the one for temporary files can be written."""
    try:
        yield _written("temporary", Path(tempfile.gettempdir()), "machine code and downloads need it: set TMPDIR")
    except FileNotFoundError as error:
        yield Finding("temporary", str(error.strerror or error), "machine code and downloads need one: set TMPDIR")
    home = Path(os.path.expanduser("~"))
    advice = "figures then take longer to begin: set MPLCONFIGDIR to a folder that can be written"
    yield _written("home", home, "" if os.environ.get("MPLCONFIGDIR") else advice)


def _written(what: str, folder: Path, advice: str) -> Finding:
    reason = unwritable(folder)
    return Finding(what, f"{folder} can be written") if reason is None else Finding(what, f"{folder} cannot be written: {reason}", advice)


def unwritable(folder: Path) -> str | None:
    """Returns why no file can be made in a folder; None where one can."""
    try:
        with tempfile.TemporaryFile(dir=folder):
            return None
    except OSError as error:
        return error.strerror or type(error).__name__


def data() -> Iterator[Finding]:
    """Looks for the regression sets in the folder that WGF_DATA names."""
    folder = os.environ.get("WGF_DATA")
    if folder is None:
        yield Finding("data", "WGF_DATA is not set; wgf bnn then needs --data DIR, which wgf bnn-data fetch --data DIR fills")
    elif not Path(folder).is_dir():
        yield Finding("data", f"WGF_DATA is {folder!r}, which is not a folder", f"wgf bnn-data fetch --data {folder} makes it")
    else:
        there = [name for name in (*Fetch.sets, "year") if any((Path(folder) / name).glob("*.txt*"))]
        lacks = [name for name in Fetch.sets if name not in there]
        found = f"{' '.join(there) or 'no set'} in {folder}"
        yield Finding("data", found, f"wgf bnn-data fetch --data {folder} --sets {' '.join(lacks)} brings the others" if lacks else "")
