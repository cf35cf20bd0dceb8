"""dawgen_jax.surgery can be used without the rest of the package and without its other dependencies."""

import json
import subprocess
import sys

import pytest

REPORT = """
import json, sys, warnings
import jax, optax
before = set(sys.modules)
warnings.simplefilter("ignore")
{statement}
print(json.dumps([sorted(before), sorted(sys.modules)]))
"""


@pytest.mark.parametrize("statement", [
    "from dawgen_jax.surgery import AggregatorState, aggregator, gradient_surgery, weighted_sum, weightings",
    "import dawgen_jax.surgery.aggregator",
    "from dawgen_jax import gradient_surgery",
])
def test_importing_it_imports_jax_and_optax_only(statement):
    words = [sys.executable, "-c", REPORT.format(statement=statement)]
    before, after = map(set, json.loads(subprocess.run(words, capture_output=True, check=True, timeout=120).stdout))
    packages = {name.partition(".")[0] for name in after - before} - sys.stdlib_module_names
    assert packages <= {"dawgen_jax", "jax", "optax"}
    rooms = {name.split(".")[1] for name in after if name.startswith("dawgen_jax.")}
    assert rooms == {"compiler", "errors", "surgery"}
    assert not {"flax", "transformers", "datasets", "orbax", "pydantic", "tyro", "matplotlib"} & {
        name.partition(".")[0] for name in after}
