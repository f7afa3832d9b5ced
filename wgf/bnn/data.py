"""The ten regression sets of Hernandez-Lobato & Adams (2015), read from a folder, and their standard splits.

A folder holds NAME/data.txt or NAME/data.txt.gz: a row a line, numbers apart by white space, the target last. ``year`` is UCI's own
YearPredictionMSD.txt, with commas and the target first. What is read is compared with the published numbers by a checksum of its values;
for ``year``, whose publisher gives none, by the one that ``note`` wrote beside it when it was fetched.
"""

import gzip
import hashlib
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from wgf.limits import as_path, contents, size
from wgf.shown import LONGEST, shown

__all__ = ["SETS", "Missing", "Rows", "Set", "Split", "known", "largest", "load", "note", "repeated", "splits"]

Array = NDArray[np.float64]


@dataclass(frozen=True)
class Set:
    """A regression set: its size, its protocol, and the SHA-256 of its numbers as little-endian float64, row by row, target last."""

    rows: int
    features: int
    target: str
    sha256: str | None
    splits: int = 20
    hidden: int = 50
    batch: int = 100
    file: str = "data.txt"
    delimiter: str | None = None
    target_first: bool = False
    first_test_row: int | None = None  # where the one split is by the order of the rows


SETS = {
    "boston": Set(506, 13, "median value of homes, k$", "832e894115c56dd24ec63848d4a3d9bd921d268d0be1bee2a8f4ee5ea318f5f7"),
    "concrete": Set(1030, 8, "compressive strength, MPa", "d0e2d2f0f50277624d7d00b98c4e8b66465e8d5f2f51738500552b8b10a4689b"),
    "energy": Set(768, 8, "heating load", "3563209cb65c108b72e6ee45f56f12e53c3f346f10b6b30a79ec5b7c0a0a1dd9"),
    "kin8nm": Set(8192, 8, "end effector's distance", "7fad37438fc1228ed099177766b084fb5577bf7457d7a6460f8d0389b21681ab"),
    "naval": Set(11934, 16, "compressor decay coefficient", "b47c7849a1dd436e6fe44bbb9a1def99e35b4e9108b1936a1a00f7f32ce08584"),
    "power": Set(9568, 4, "net hourly output, MW", "d3c75624ea5df1256c9b8e81560e1f9381014565c5f558d3293831fa521b82e9"),
    "protein": Set(
        45730, 9, "RMSD, angstrom", "19667c545027b658fa8b2fa3620154e7046b3d263df1ec263514676eb3585096", splits=5, hidden=100, batch=1000
    ),
    "wine": Set(1599, 11, "quality score", "d4f6a6d672e0ee31d41fdd93b4b58985b45a31f2f971499c18137c42229278ac"),
    "yacht": Set(308, 6, "residuary resistance", "ec08588637fd93582116a1ead33f0c1e787dae755168073608e030e5282a3f4e"),
    "year": Set(
        515345, 90, "year", None, splits=1, hidden=100, batch=1000,
        file="YearPredictionMSD.txt", delimiter=",", target_first=True, first_test_row=463715,
    ),
}  # fmt: skip


class Missing(ValueError):
    """A set that is not in the folder."""


class Rows(NamedTuple):
    """Inputs (n, d) and targets (n,)."""

    x: Array
    y: Array


class Split(NamedTuple):
    """Row numbers that train and that test."""

    train: NDArray[np.int64]
    test: NDArray[np.int64]


def load(folder: Path, name: str, about: Set | None = None) -> Rows:
    """Set ``name`` from ``folder``. Raises ValueError, in one line with file, line and what was expected, where the data are not these."""
    about, folder = about or known(name), as_path("folder", folder)
    plain = folder / name / about.file
    path = next((p for p in (plain, plain.with_name(plain.name + ".gz")) if p.is_file()), None)  # no pipe and no device
    if path is None:
        raise Missing(
            f"there is no {plain} nor {plain.name}.gz; give the folder that holds {name}/{about.file}, or fetch it: wgf bnn-data fetch"
        )
    numbers, rows = np.empty((about.rows, about.features + 1)), 0
    for number, line in _lines(path, about):
        if rows == about.rows:
            raise ValueError(f"{path} has more than {rows} lines; {name} has {rows} rows: the file is not this set")
        numbers[rows] = _row(line, number, path, about)
        rows += 1
    if rows < about.rows:
        raise ValueError(f"{path} has {rows} lines; {name} has {about.rows} rows: the file is cut short or not this set")
    if about.target_first:
        numbers = np.roll(numbers, -1, axis=1)
    found = hashlib.sha256(numbers.astype("<f8").tobytes()).hexdigest()
    if (expected := about.sha256 or _noted(plain)) not in (None, found):
        whose = f"the published {name}" if about.sha256 else "those that were fetched"
        raise ValueError(f"{path} holds other numbers than {whose}: their SHA-256 is {found}, expected {expected}")
    return Rows(numbers[:, :-1], numbers[:, -1])


def known(name: str) -> Set:
    """Returns what is known about a set. Raises ValueError for a name that is none."""
    if not isinstance(name, str) or name not in SETS:
        raise ValueError(f"name is {shown(name)}; choose from {', '.join(SETS)}")
    return SETS[name]


def note(folder: Path, name: str) -> None:
    """Writes beside a set that has no published checksum the one of its numbers; ``load`` compares them from then on."""
    about = SETS[name]
    if about.sha256 is None:
        rows = load(folder, name)
        found = hashlib.sha256(np.column_stack(rows).astype("<f8").tobytes()).hexdigest()
        _beside(folder / name / about.file).write_text(found + "\n", "ascii")


def largest(about: Set) -> int:
    """Returns the most bytes that a set's text is read of: 32 for each number."""
    return 32 * about.rows * (about.features + 1) + 2**16


def _beside(plain: Path) -> Path:
    return plain.with_name(plain.name + ".sha256")


def _noted(plain: Path) -> str | None:
    try:
        return contents(_beside(plain), 2**10).decode("ascii", "replace").strip()
    except OSError:
        return None


def splits(name: str, about: Set | None = None) -> list[Split]:
    """The standard splits: with numpy's legacy generator of seed 1, split i is the i-th permutation, its first 90 % train; ``year`` is
    split by order."""
    about = about or known(name)
    if about.first_test_row is not None:
        order = np.arange(about.rows)
        return [Split(order[: about.first_test_row], order[about.first_test_row :])]
    generator, train = np.random.RandomState(1), round(0.9 * about.rows)
    orders = [generator.permutation(about.rows) for _ in range(about.splits)]
    return [Split(order[:train], order[train:]) for order in orders]


def repeated(rows: Rows, split: Split) -> NDArray[np.bool_]:
    """Which test rows occur in the train part with the same inputs and target, (test rows,)."""
    whole = np.column_stack(rows)
    known = {row.tobytes() for row in whole[split.train]}
    return np.array([row.tobytes() in known for row in whole[split.test]])


def _lines(path: Path, about: Set) -> Iterator[tuple[int, str]]:
    """Yields the lines that are not blank, with their numbers.

    What is unpacked is looked at as it comes, so that a small file cannot take much memory.
    """
    number, left = 0, largest(about)
    if path.stat().st_size > left:
        raise ValueError(f"{path} has {size(path.stat().st_size)}, and {about.rows} rows have at most {size(left)}; it is not this set")
    try:
        with gzip.open(path, "rt", encoding="ascii") if path.suffix == ".gz" else path.open(encoding="ascii") as file:
            while line := file.readline(left + 1):
                number, left = number + 1, left - len(line)
                if left < 0:
                    raise ValueError(f"{path} has more text than {about.rows} rows of {about.features + 1} numbers; it is not this set")
                if line.strip():
                    yield number, line
    except (EOFError, OSError, zlib.error, UnicodeDecodeError) as error:
        raise ValueError(f"{path} cannot be read after line {number}: {' '.join(str(error).split())}; fetch it again") from None


def _row(line: str, number: int, path: Path, about: Set) -> list[float]:
    words, width = line.split(about.delimiter), about.features + 1
    if len(words) != width:
        raise ValueError(f"{path} line {number} has {len(words)} numbers; expected {width}: {about.features} features and the target")
    try:
        values = [float(word) for word in words]
    except ValueError as error:
        raise ValueError(f"{path} line {number}: {str(error)[:LONGEST]}; expected {width} numbers") from None
    if "_" in line:  # Python takes 1_0 for 10
        raise ValueError(f"{path} line {number} has a '_'; expected {width} numbers")
    if not np.isfinite(values).all():
        raise ValueError(f"{path} line {number} holds a number that is not finite; expected {width} numbers")
    return values
