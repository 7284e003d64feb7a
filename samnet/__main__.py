"""`python -m samnet COMMAND ...`, the same as `samnet COMMAND ...`."""

import sys

from samnet.cli.main import main

sys.exit(main())
