"""`python -m wmkit` is the command `wmkit`, also where that is not on the path."""

import sys

from wmkit.cli.__main__ import main

if __name__ == "__main__":
    sys.exit(main())
