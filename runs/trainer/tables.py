"""Tables of rows with named cells, as text, Markdown and CSV: what every report and every study writes."""

import csv
import errno
import io
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from wgf.agents.training.checkpoint import replace

__all__ = ["Row", "filled", "markdown", "text", "writable", "write", "write_rows", "write_text"]

Row = Mapping[str, str]


def markdown(rows: Sequence[Row]) -> str:
    """Writes the table as Markdown; the names of the first row are its head."""
    head = list(rows[0])
    lines = [head, ["---"] * len(head), *([row[k] for k in head] for row in rows)]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines) + "\n"


def text(rows: Sequence[Row]) -> str:
    """Writes the table in aligned columns."""
    head = list(rows[0])
    width = {k: max(len(k), *(len(row[k]) for row in rows)) for k in head}
    lines = [dict(zip(head, head, strict=True)), *rows]
    return "\n".join("  ".join(line[k].ljust(width[k]) for k in head).rstrip() for line in lines) + "\n"


def write(path: Path, rows: Sequence[Row], note: str = "") -> str:
    """Writes path.md, path.txt and path.csv, a note under the first two; returns what path.txt holds."""
    shown = text(rows) + (f"\n{note}\n" if note else "")
    write_text(path.with_suffix(".md"), markdown(rows) + (f"\n{note}\n" if note else ""))
    write_text(path.with_suffix(".txt"), shown)
    write_rows(path.with_suffix(".csv"), list(rows[0]), [list(row.values()) for row in rows])
    return shown


def writable(folder: Path) -> Path:
    """Makes a folder for results, and returns it. Raises OSError, which names it, where nothing can be written there."""
    folder.mkdir(parents=True, exist_ok=True)
    if not os.access(folder, os.W_OK | os.X_OK):
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(folder))
    return folder


@contextmanager
def filled(folder: Path) -> Iterator[None]:
    """Removes at its end a folder, and those around it, that were not there before and are empty."""
    made = [path for path in (folder, *folder.parents) if not path.exists()]
    try:
        yield
    finally:
        for path in made:
            with suppress(OSError):  # there is something in it
                path.rmdir()


def write_text(path: Path, content: str) -> None:
    """Writes a text, whole or not at all; an OSError names the file."""
    replace(path, content.encode())


def write_rows(path: Path, head: Sequence[str], rows: Iterable[Sequence[Any]]) -> None:
    """Writes a CSV file with a head, whole or not at all."""
    file = io.StringIO(newline="")
    writer = csv.writer(file)
    writer.writerow(head)
    writer.writerows(rows)
    replace(path, file.getvalue().encode())
