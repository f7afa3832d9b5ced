"""Runs the notebooks of docs/notebooks and writes what their cells answer into them: python -m tests.notebooks [NAME ...]

The site and GitHub show what stands there and run nothing. A notebook says of which cells its answers are: ``tests/test_notebooks.py``
finds cells that were changed and not run again.
"""

import hashlib
import sys
import tempfile
from pathlib import Path
from typing import Any

import nbformat
from jupyter_client import AsyncKernelManager
from nbclient import NotebookClient

FOLDER = Path(__file__).parents[1] / "docs" / "notebooks"
NAMES = sorted(path.stem for path in FOLDER.glob("*.ipynb"))


def read(name: str) -> Any:
    """Returns a notebook."""
    return nbformat.read(FOLDER / f"{name}.ipynb", as_version=4)


def cells(notebook: Any) -> list[Any]:
    """Returns the cells that are programs."""
    return [cell for cell in notebook.cells if cell.cell_type == "code"]


def mark(notebook: Any) -> str:
    """Returns what tells the programs of a notebook from others."""
    return hashlib.sha256("\n\n".join(cell.source for cell in cells(notebook)).encode()).hexdigest()


def run(notebook: Any, folder: Path) -> Any:
    """Runs a notebook in a folder by a kernel of its own, and returns it with its answers. Raises where a cell raises."""
    with tempfile.TemporaryDirectory() as sockets:  # files of this user, not ports that all can reach
        kernel = AsyncKernelManager(kernel_name="python3", transport="ipc", ip=f"{sockets}/kernel")
        about = {"metadata": {"path": str(folder)}}
        NotebookClient(notebook, km=kernel, timeout=1800, startup_timeout=600, resources=about).execute()
    return notebook


def main() -> None:
    """Runs the notebooks of these names, or all, and writes them."""
    for name in sys.argv[1:] or NAMES:
        with tempfile.TemporaryDirectory() as folder:
            found = run(read(name), Path(folder))
        for cell in found.cells:
            cell.metadata.pop("execution", None)  # when it ran
        found.metadata = {"kernelspec": found.metadata.kernelspec, "language_info": {"name": "python"}, "answers": mark(found)}
        nbformat.write(found, FOLDER / f"{name}.ipynb")
        print(name, flush=True)


if __name__ == "__main__":
    main()
