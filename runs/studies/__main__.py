"""``python -m wgf.runs.studies NAME ...``."""

from wgf.runs.command.answers import launch
from wgf.runs.studies.main import main

launch(main)
