"""``python -m prunenas``: the command line."""

import sys

from prunenas.cli import main

sys.exit(main())
