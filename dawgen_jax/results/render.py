"""A table of plain text, and its renderers for the terminal, Markdown and LaTeX, each with its escaping."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Iterable

from rich import box
from rich.console import Console, ConsoleOptions, Group, RenderableType, RenderResult
from rich.padding import Padding
from rich.table import Table as RichTable

from dawgen_jax.io.terminal import plain, printable

__all__ = ["Table", "to_latex", "to_markdown"]

_NARROW = 3
"""Number of columns that fit on a phone."""
_READABLE = 18
"""Minimum width of a text column in a terminal, in characters."""
_ENDLESS = 100_000
"""A terminal width at which no line is broken."""


@dataclasses.dataclass(frozen=True)
class Table:
    """A table of plain text; cells may hold line breaks.

    Attributes:
      title: a single line.
      columns: headings.
      rows: one cell per column.
      notes: sentences under the table.
      text_columns: number of leading columns that hold text and are left-aligned.
    """

    title: str
    columns: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    notes: tuple[str, ...] = ()
    text_columns: int = 1

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        """The table and its notes, for a terminal of any width.

        If a table with many columns does not fit without breaking words, its rows are listed instead; no text is cut.
        """
        grid = _grid(self)
        if console.measure(grid, options=options.update_width(_ENDLESS)).maximum > options.max_width:
            grid = _grid(self, tight=len(self.columns) > _NARROW)
        needed = console.measure(grid, options=options.update_width(_ENDLESS)).minimum
        yield plain(self.title, "table.title")
        yield grid if needed <= options.max_width or len(self.columns) <= _NARROW else _listed(self)
        yield from (plain(note, "table.caption") for note in (*self.notes, ""))


def _grid(table: Table, *, tight: bool = False) -> RichTable:
    """The table for Rich; ``tight`` sets the widths of text columns, since Rich widens one below its min_width again
    after it has shared out the terminal, and cuts the last column."""
    rich = RichTable(box=box.SIMPLE_HEAD)
    for position, column in enumerate(table.columns):
        text = position < table.text_columns
        longest = max(len(cell) for cell in (column, *(row[position] for row in table.rows)))
        rich.add_column(plain(column), justify="left" if text else "right", overflow="fold",
                        width=min(longest, _READABLE) if text and tight else None)
    for row in table.rows:
        rich.add_row(*map(plain, row))
    return rich


def _listed(table: Table) -> Group:
    """Each row as its texts on a line, followed by its figures with their headings."""
    parts: list[RenderableType] = [""]
    for row in table.rows:
        cells = [" ".join(cell.split()) for cell in row]
        headings = [" ".join(column.split()) for column in table.columns]
        figures = [f"{heading}: {cell}" for heading, cell in zip(headings, cells, strict=True)]
        parts += [Padding(plain(" | ".join(filter(None, cells[:table.text_columns])), "bold"), (0, 0, 0, 2)),
                  Padding(plain("; ".join(figures[table.text_columns:])), (0, 0, 1, 4))]
    return Group(*parts)


def _plain_markdown(text: str) -> str:
    text = printable(text, lines=True).replace("&", "&amp;").replace("<", "&lt;")
    return re.sub(r"([\\`*_\[\]|#~])", r"\\\1", text).replace("\n", "<br>")


def to_markdown(table: Table) -> str:
    """The table as Markdown, with a bold title and a list of notes."""
    def line(cells: Iterable[str]) -> str:
        return "| " + " | ".join(cells) + " |"

    rule = ["---" if position < table.text_columns else "---:" for position in range(len(table.columns))]
    body = [line(map(_plain_markdown, row)) for row in table.rows]
    notes = [f"- {_plain_markdown(note)}" for note in table.notes]
    return "\n".join([f"**{_plain_markdown(table.title)}**", "", line(map(_plain_markdown, table.columns)), line(rule),
                      *body, "", *notes, ""])


# Brackets and stars are braced, since LaTeX reads '\\[' and '\\*' at the start of a row as options of the line break.
_LATEX = {"\\": r"\textbackslash{}", "{": r"\{", "}": r"\}", "$": r"\$", "&": r"\&", "#": r"\#", "_": r"\_",
          "%": r"\%", "^": r"\textasciicircum{}", "~": r"\textasciitilde{}", "<": r"\textless{}",
          ">": r"\textgreater{}", "|": r"\textbar{}", "[": "{[}", "]": "{]}", "*": "{*}", "±": r"$\pm$", "–": "--"}


def _plain_latex(text: str) -> str:
    return "".join(_LATEX.get(character, character) for character in printable(text, lines=True))


def to_latex(table: Table) -> str:
    r"""The table as a LaTeX float for the package booktabs, with its notes in small type.

    A line break in a cell becomes a ``\shortstack``.
    """
    def cell(text: str, position: int) -> str:
        lines = list(map(_plain_latex, text.split("\n")))
        side = "l" if position < table.text_columns else "r"
        stacked = r" \\ ".join(lines)
        return stacked if len(lines) == 1 else rf"\shortstack[{side}]{{{stacked}}}"

    def line(cells: Iterable[str]) -> str:
        return " & ".join(cell(text, position) for position, text in enumerate(cells)) + r" \\"

    sides = "".join("l" if position < table.text_columns else "r" for position in range(len(table.columns)))
    notes = [rf"\par\smallskip\footnotesize {_plain_latex(note)}".replace("\n", " ") for note in table.notes]
    return "\n".join([
        r"\begin{table}", r"\centering", rf"\caption{{{_plain_latex(' '.join(table.title.split()))}}}",
        rf"\begin{{tabular}}{{{sides}}}", r"\toprule", line(table.columns), r"\midrule", *map(line, table.rows),
        r"\bottomrule", r"\end{tabular}", *notes, r"\end{table}", ""])
