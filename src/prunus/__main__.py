"""`python -m prunus` is the `prunus` command."""

import sys

from prunus.cli import main

sys.exit(main())
