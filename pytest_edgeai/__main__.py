"""``python -m pytest_edgeai``: the console command where its script is not on the path."""

import sys

from pytest_edgeai.console import main

if __name__ == "__main__":
    sys.exit(main())
