"""The README's Python blocks run as they are written, and it stays short."""

import pathlib
import re

TEXT = (pathlib.Path(__file__).parents[2] / "README.md").read_text(encoding="utf-8")


def test_the_python_blocks_run_as_pasted(capsys):
    blocks = re.findall(r"^```python\n(.*?)^```", TEXT, re.M | re.S)
    assert len(blocks) == 2
    for block in blocks:
        exec(compile(block, "README.md", "exec"), {"__name__": "readme"})
    assert set(re.findall(r"\w+", capsys.readouterr().out)) <= {"entailment", "neutral", "contradiction"}


def test_it_is_short_and_its_links_lead_somewhere():
    assert len(TEXT.splitlines()) <= 120
    root = pathlib.Path(__file__).parents[2]
    for target in re.findall(r"\]\((?!https?:)([^)#]+)\)", TEXT):
        assert (root / target).exists(), target
