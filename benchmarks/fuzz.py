"""The fuzz suite with more inputs, which are new in every run.

    python -m benchmarks.fuzz [--examples 2000] [--only PROPERTY ...] [--fixed]

Prints a line per property with the numbers of accepted and refused inputs, followed by all results as JSON. If an input
is neither accepted nor refused, or is accepted although it is invalid, the run ends with the smallest such input and
status 1.
"""

from __future__ import annotations

import argparse
import json
import logging
import sys
import time
import traceback

from tests.fuzz.properties import PROPERTIES
from tests.fuzz.runner import run


def main() -> None:
    """Run the properties in turn."""
    parser = argparse.ArgumentParser(description="The fuzz suite with more inputs.")
    parser.add_argument("--examples", type=int, default=2000, help="inputs per property (a tenth for slow ones)")
    parser.add_argument("--only", nargs="*", default=list(PROPERTIES), choices=list(PROPERTIES))
    parser.add_argument("--fixed", action="store_true", help="use the same inputs in every run")
    arguments = parser.parse_args()
    logging.disable(logging.WARNING)  # many inputs cause warnings
    found, failed = {}, []
    for name in arguments.only:
        begin = time.monotonic()
        slow = PROPERTIES[name].examples < 100
        examples = max(arguments.examples // 10 if slow else arguments.examples, 1)
        try:
            counts = run(PROPERTIES[name], examples, derandomize=arguments.fixed)
        except Exception:
            traceback.print_exc()
            failed.append(name)
            continue
        found[name] = {"inputs": counts.total(), **counts, "seconds": round(time.monotonic() - begin, 1)}
        print(f"{name:16}", found[name], flush=True)
    print(json.dumps({"inputs": sum(one["inputs"] for one in found.values()), "failed": failed, "properties": found}))
    sys.exit(bool(failed))


if __name__ == "__main__":
    main()
