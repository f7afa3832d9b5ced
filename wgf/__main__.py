"""``python -m wgf ...``: the command line, where ``wgf`` is not on the path."""

from wgf.runs.command.cli import main

main()
