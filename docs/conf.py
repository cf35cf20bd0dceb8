"""The documentation site: sphinx-build -W -b html docs build/docs."""

import contextlib
import importlib
import io
import os
import pathlib
import re
import sys

from docutils import nodes
from docutils.parsers.rst import Directive

import dawgen_jax

ROOT = pathlib.Path(__file__).parents[1]
FIELDS: dict[str, list[str]] = {}
project, author, release = "DawGen-JAX", "the DawGen-JAX authors", dawgen_jax.__version__
copyright = author
extensions = ["myst_nb", "sphinx.ext.autodoc", "sphinx.ext.napoleon"]
exclude_patterns = ["_build"]
html_theme, html_title = "furo", "DawGen-JAX"
myst_enable_extensions = ["dollarmath"]
myst_heading_anchors = 3
nb_execution_mode = "off"  # the notebook is stored with its outputs; the tests execute it
autodoc_member_order, autodoc_typehints = "bysource", "none"


class CommandHelp(Directive):
    """The help of a command, as a terminal of 100 columns shows it."""

    required_arguments, final_argument_whitespace = 1, True

    def run(self):
        name, *words = self.arguments[0].split()
        os.environ["COLUMNS"], argv, sys.argv = "100", sys.argv, [f"dawgen {name}"]
        with contextlib.redirect_stdout(io.StringIO()) as printed, contextlib.suppress(SystemExit):
            importlib.import_module(f"dawgen_jax.cli.{name}").main([*words, "--help"])
        sys.argv, text = argv, printed.getvalue()
        if not text:
            raise self.error(f"dawgen {name} --help prints nothing")
        return [nodes.literal_block(text, text, language="text")]


class Departures(Directive):
    """Every ``Departure:`` from the paper that a docstring of the package states, by module."""

    def run(self):
        listed = nodes.bullet_list()
        for path in sorted((ROOT / "dawgen_jax").rglob("*.py")):
            for match in re.finditer(r"Departures?[^:\n]*:(?:``)?\s+(.+?)(?=\n\s*\n|\"\"\"|``Departure|$(?![\s\S]))",
                                     path.read_text(), re.S):
                text = re.sub(r":\w+:`([^`]+)`|``", r"\1", " ".join(match[1].split()))
                module = str(path.relative_to(ROOT).with_suffix("")).replace("/", ".").removesuffix(".__init__")
                line = nodes.paragraph("", "", nodes.literal("", module), nodes.Text(f": {text}"))
                listed += nodes.list_item("", line)
        return [listed]


def without_fields(app, what, name, obj, options, signature, annotation):
    """No signature of configurations: their fields follow, each with its default."""
    return ("", None) if what == "class" and name.startswith("dawgen_jax.config") else None


def keep(app, what, name, obj, options, lines):
    """The docstring of a field before napoleon, which takes what is in front of a colon for a type."""
    if what == "attribute":
        FIELDS[name] = list(lines)


def restore(app, what, name, obj, options, lines):
    """The docstring of a field as it was."""
    lines[:] = FIELDS.get(name, lines)


def setup(app):
    app.add_directive("command-help", CommandHelp)
    app.add_directive("departures", Departures)
    app.connect("autodoc-process-signature", without_fields)
    app.connect("autodoc-process-docstring", keep, priority=1)
    app.connect("autodoc-process-docstring", restore, priority=999)
