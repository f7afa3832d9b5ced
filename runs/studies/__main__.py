"""``python -m wgf.runs.studies NAME ...``."""

import sys

from wgf.runs.studies.main import main

sys.exit(main(sys.argv[1:]))
