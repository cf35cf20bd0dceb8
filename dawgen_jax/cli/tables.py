"""Print the tables of finished runs: ``dawgen tables RUN [RUN ...] [--latex FILE] [--figure FILE] ...``.

RUN is a run directory or its results.jsonl. If two runs hold the same row, the row of the later run is used.
"""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Annotated, Literal

import tyro
from rich.console import Console

from dawgen_jax.cli.options import parse
from dawgen_jax.errors import UserError
from dawgen_jax.io.files import write_file
from dawgen_jax.results.claims import claims
from dawgen_jax.results.measures import conflict_table, quality_table
from dawgen_jax.results.plots import draw_results
from dawgen_jax.results.render import to_latex, to_markdown
from dawgen_jax.results.report import tables_page
from dawgen_jax.results.rows import SyntheticRow, merge, read_rows
from dawgen_jax.results.tables import result_tables


@dataclasses.dataclass(frozen=True)
class Arguments:
    """Print mean and deviation over seeds, with published numbers next to ours if they are comparable."""

    runs: Annotated[tuple[Path, ...], tyro.conf.Positional]
    """Run directories, or results.jsonl files."""
    metric: Literal["accuracy", "f1"] = "accuracy"
    """The metric to tabulate."""
    claims: bool = False
    """Also test the paper's claims over the pairs of (task, seed), and tabulate synthetic sets and conflicts."""
    markdown: Path | None = None
    """Write the same tables to this Markdown file."""
    latex: Path | None = None
    """Write the tables to this LaTeX file, for the package booktabs."""
    html: Path | None = None
    """Write the tables to this HTML page."""
    figure: Path | None = None
    """Plot the rows to this .svg or .png file."""


def _write(option: str, path: Path | None, write: Callable[[Path], None]) -> None:
    if path:
        try:
            write(path)
        except OSError as error:
            raise UserError(f"--{option} {path}: cannot be written ({error.strerror}); name a file in a folder that "
                            "you may write to.") from None


def show(arguments: Arguments, console: Console) -> None:
    """Read the rows, print the tables and write them."""
    if not arguments.runs:
        raise UserError("No run is named; give one or more run directories or results.jsonl files.")
    files = [path / "results.jsonl" if os.path.isdir(path) else path for path in arguments.runs]
    groups = [read_rows(file) for file in files]
    rows = merge(*groups)
    for task in {row.task for row in rows}:
        if len({row.data for row in rows if row.task == task} - {""}) > 1:
            raise UserError(f"{', '.join(map(str, files))}: these runs have different data named {task}, so their mean "
                            "is meaningless; show them in separate tables.")
    replaced = sum(map(len, groups)) - len(rows)
    if replaced:
        console.print(f"Rows in more than one run: {replaced}; the rows of the later run are shown.")
    tables = result_tables(rows, arguments.metric)
    if not tables:
        raise UserError(f"{', '.join(map(str, files))}: no row has the metric '{arguments.metric}'.")
    if arguments.claims:
        quality = [file.with_name("synthetic.jsonl") for file in files]
        sets = merge(*(read_rows(file, SyntheticRow) for file in quality if file.exists()))
        tables += claims(rows, sets)
        tables += [table for table in (quality_table(sets), conflict_table(rows)) if table.rows]
    for table in tables:
        console.print(table)
    _write("markdown", arguments.markdown, lambda path: write_file(path, "\n".join(map(to_markdown, tables))))
    _write("latex", arguments.latex, lambda path: write_file(path, "\n".join(map(to_latex, tables))))
    _write("html", arguments.html, lambda path: write_file(path, tables_page("Results", tables)))
    _write("figure", arguments.figure, lambda path: draw_results(rows, path, arguments.metric))


def main(argv: Sequence[str]) -> None:
    """Parse the command line and show the tables."""
    show(parse(argv, Arguments, __doc__), Console())
