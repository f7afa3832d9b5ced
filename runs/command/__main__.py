"""``python -m wgf.runs.command ...`` is the command ``wgf ...``."""

from wgf.runs.command.cli import main

main()
