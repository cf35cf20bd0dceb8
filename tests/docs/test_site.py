"""The site's pages hold what the code says: the cost table, every folder of results, every departure."""

import pathlib
import re

from benchmarks import costs

ROOT = pathlib.Path(__file__).parents[2]


def page(name):
    return (ROOT / "docs" / name).read_text(encoding="utf-8")


def test_the_cost_table_is_what_the_command_prints(capsys):
    costs.main()
    assert capsys.readouterr().out in page("guides/own_task.md")


def test_the_cost_model_adds_up():
    found = costs.operations(*costs.BACKBONES["T5-small"])
    assert set(found) == set(costs.COLUMNS) and min(found.values()) > 0
    machine = costs.Machine(training=1e9, decoding=1e6)
    wanted = (found["generators"] + found["cells"]) / 1e9 + found["sets"] / 1e6
    assert abs(60 * costs.minutes(found, machine) / wanted - 1) < 1e-9


def test_every_folder_of_results_is_listed():
    listed = page("reproduction.md")
    assert all(f"/results/{folder.name})" in listed for folder in (ROOT / "results").iterdir() if folder.is_dir())


def test_every_command_is_in_the_reference():
    from dawgen_jax.cli.__main__ import COMMANDS

    shown = re.findall(r"\{command-help\} (\w+)", page("reference/commands.md"))
    assert set(shown) == set(COMMANDS)
