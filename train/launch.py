"""``python -m train.launch``: replaced by files to copy, docs/guides/clusters.md."""

import sys

if __name__ == "__main__":
    sys.exit("train.launch is gone; docs/guides/clusters.md has a file for every launcher.")
