"""The tutorial's pages do what they say, block by block, and the notebook runs from its first cell to its last."""

import contextlib
import doctest
import glob
import importlib
import io
import logging
import os
import pathlib
import re
import shlex

import datasets
import jax
import nbformat
import pytest
from markdown_it import MarkdownIt
from nbclient import NotebookClient

from dawgen_jax.cli.__main__ import COMMANDS

ROOT = pathlib.Path(__file__).parents[1]
TUTORIAL = ROOT / "docs" / "tutorial"
PAGES = [TUTORIAL / "README.md", *sorted(TUTORIAL.glob("[0-9]-*.md"))]
WIDTH = 100
"""Columns of the terminal whose output the pages show."""


def shell(line):
    """Run ``dawgen COMMAND WORDS`` in this process, with the words that the shell would give it."""
    dawgen, command, *words = shlex.split(line)
    assert dawgen == "dawgen" and command in COMMANDS, line
    found = [sorted(glob.glob(word)) if "*" in word else [word] for word in words]
    assert all(found), f"{line}: no such path"
    importlib.import_module(f"dawgen_jax.cli.{command}").main([word for part in found for word in part])


def shape(text):
    """Text without what another machine computes otherwise: numbers, hashes and the length of rules."""
    return re.sub(r"─+", "─", re.sub(r"-?\b[0-9a-f]{12}\b|[-+]?\d[\d.,]*", "0", text))


def check(promised, printed, exact):
    """Assert that a page shows what was printed; '...' there stands for anything."""
    options = doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE
    want, got = (promised, printed) if exact else (shape(promised), shape(printed))
    assert doctest.OutputChecker().check_output(want, got, options), f"{promised}\n--- but this was printed:\n{printed}"


def blocks(page):
    """(language, body) of a page's fenced blocks, in order."""
    return [(token.info, token.content) for token in MarkdownIt().parse(page.read_text()) if token.type == "fence"]


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """A folder in which the pages are worked through, as a reader does: one after the other."""
    folder = tmp_path_factory.mktemp("tutorial")
    level = logging.getLogger("dawgen_jax").level
    with pytest.MonkeyPatch.context() as patch, contextlib.chdir(folder):
        patch.setenv("COLUMNS", str(WIDTH))
        patch.setattr(datasets.config, "HF_DATASETS_CACHE", str(folder / "cache"))
        yield {"__name__": "tutorial"}
    logging.getLogger("dawgen_jax").setLevel(level)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_a_page_does_what_it_says(page, place):
    printed, ran = "", 0
    for language, body in blocks(page):
        if language.startswith("text"):
            check(body, printed, language == "text exact")
        elif language and not language.startswith("{"):  # a directive of the site
            with contextlib.redirect_stdout(io.StringIO()) as output:
                if language == "bash":
                    shell(body.strip())
                else:
                    assert language == "python"
                    exec(compile(body, f"{page.name} (python block)", "exec"), place)
            printed, ran = output.getvalue(), ran + 1
    assert ran


SETTINGS = ("jax_num_cpu_devices", "jax_compilation_cache_dir", "jax_persistent_cache_min_compile_time_secs",
            "jax_default_matmul_precision")
"""Of tests/conftest.py; under these the notebook finds the programs that the pages had compiled."""


def told(notebook):
    """What each code cell of an executed notebook printed, once its shape is right."""
    cells = [cell for cell in notebook.cells if cell.cell_type == "code"]
    assert [cell.execution_count for cell in cells] == list(range(1, len(cells) + 1))
    assert {output.get("name") for cell in cells for output in cell.outputs} == {"stdout"}
    printed = ["".join(output.text for output in cell.outputs) for cell in cells]
    assert "24 pairs to tune on, 24 for dev" in printed[1]
    quality, methods, predicted, kept, accuracy = printed[-5:]
    assert "distinct-2: " in quality and re.search(r"labels that are right: \d+ of 48$", quality)
    assert methods == "Prompt Tuning and (Real, Syn) + GS\n"
    assert len(re.findall(r"-> (entailment|neutral|contradiction) \['0\.\d\d', '0\.\d\d', '0\.\d\d'\]", predicted)) == 2
    assert kept.splitlines() == ["README.md adapter_config.json adapter_model.safetensors", "predicts the same: True"]
    values = re.fullmatch(r"zero-shot +(\S+)\nreal pairs alone +(\S+)\nreal and synthetic pairs +(\S+)\n", accuracy)
    assert all(0 <= float(value) <= 1 for value in values.groups())
    return printed


def test_the_notebook_is_stored_with_its_outputs_and_runs(tmp_path, monkeypatch):
    notebook = nbformat.read(ROOT / "docs" / "from_csv_to_classifier.ipynb", as_version=4)
    stored = told(notebook)
    for name in SETTINGS:
        monkeypatch.setenv(name.upper(), str(getattr(jax.config, name)))
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(filter(None, (str(ROOT), os.environ.get("PYTHONPATH")))))
    monkeypatch.setenv("PYTHONWARNINGS", "ignore:IProgress not found")  # tqdm's, without ipywidgets
    NotebookClient(notebook, timeout=300, resources={"metadata": {"path": str(tmp_path)}}).execute()
    again = told(notebook)
    assert [bool(text) for text in again] == [bool(text) for text in stored]
    assert again[0] == stored[0]  # the file, which no arithmetic changes
