"""`python -m edge` is `edge-classifier`."""

import sys

from edge.cli import main

sys.exit(main())
