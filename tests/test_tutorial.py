"""The tutorial's pages do what they say, block by block, and the notebook runs from its first cell to its last."""

import contextlib
import doctest
import glob
import importlib
import io
import logging
import pathlib
import re
import shlex

import datasets
import pytest
from markdown_it import MarkdownIt

ROOT = pathlib.Path(__file__).parents[1]
TUTORIAL = ROOT / "docs" / "tutorial"
PAGES = [TUTORIAL / "README.md", *sorted(TUTORIAL.glob("[0-9]-*.md"))]
WIDTH = 100
"""Columns of the terminal whose output the pages show."""


def shell(line):
    """Run ``python -m train.PROGRAM WORDS`` in this process, with the words that the shell would give it."""
    python, option, module, *words = shlex.split(line)
    assert (python, option) == ("python", "-m") and module.startswith("train."), line
    found = [sorted(glob.glob(word)) if "*" in word else [word] for word in words]
    assert all(found), f"{line}: no such path"
    importlib.import_module(module).main([word for part in found for word in part])


def shape(text):
    """Text without what another machine computes otherwise: numbers, hashes and the length of rules."""
    return re.sub(r"─+", "─", re.sub(r"\b[0-9a-f]{12}\b|[-+]?\d[\d.,]*", "0", text))


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
        elif language:
            with contextlib.redirect_stdout(io.StringIO()) as output:
                if language == "bash":
                    shell(body.strip())
                else:
                    assert language == "python"
                    exec(compile(body, f"{page.name} (python block)", "exec"), place)
            printed, ran = output.getvalue(), ran + 1
    assert ran
