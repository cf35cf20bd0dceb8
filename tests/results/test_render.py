"""Nothing from data is taken for markup, by any writer."""

import html.parser
import io
import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from rich.console import Console

from dawgen_jax.results.render import Table, to_latex, to_markdown
from dawgen_jax.results.report import tables_page

HOSTILE = Table("[bold]t[/bold] | <b>", ("[red]a", "b|c"), (("[/nothing]", "*x*\ny <i>&"),), ("_note_ [link]",),
                text_columns=2)
TEX = Table(r"\input{x} 100% #1", ("a_b", "$x^2$"), ((r"[1ex] ~", "*\n{&}"), ("*", "1 ± 2\n–")), (r"note \\ }",))


def test_terminal_and_markdown():
    out = io.StringIO()
    Console(file=out, width=200).print(HOSTILE)
    for text in ("[bold]t[/bold] | <b>", "[red]a", "[/nothing]", "*x*", "_note_ [link]"):
        assert text in out.getvalue()
    assert to_markdown(HOSTILE).splitlines() == [
        r"**\[bold\]t\[/bold\] \| &lt;b>**", "", r"| \[red\]a | b\|c |", "| --- | --- |",
        r"| \[/nothing\] | \*x\*<br>y &lt;i>&amp; |", "", r"- \_note\_ \[link\]"]


def test_control_characters_and_emoji_codes_are_shown_and_line_breaks_kept():
    table = Table("\x1b]0;t\x07", ("\x1b[31ma", ":bug:"), (("\x9b2J\rb", "one\ntwo\ud800"),), ("\u202enote",), 2)
    out = io.StringIO()
    Console(file=out, width=200).print(table)
    shown = out.getvalue()
    for text in (r"\x1b]0;t\x07", r"\x1b[31ma", ":bug:", r"\x9b2J\rb", r"two\ud800", r"\u202enote"):
        assert text in shown
    assert next(line for line in shown.splitlines() if "one" in line).find("two") < 0
    for written in (shown, to_markdown(table), to_latex(table)):
        assert not any(character in written for character in "\x1b\x07\x9b\r\u202e\ud800")


def test_a_table_that_is_too_wide_for_the_terminal_loses_no_letter():
    out = io.StringIO()
    Console(file=out, width=16).print(Table("t", ("method", "accuracy"), (("Prompting", "-16.00"),)))
    assert "…" not in out.getvalue()
    assert sorted("".join(out.getvalue().split()).replace("─", "")) == sorted("tmethodaccuracyPrompting-16.00")


@pytest.mark.parametrize(("width", "listed"), [(80, True), (100, True), (140, False)])
def test_a_table_of_many_columns_is_a_list_where_words_would_be_broken(width, listed):
    table = Table("t", ("claim", "verdict", *(f"figure\n{i}" for i in range(10))),
                  (("synthetic data lifts prompt tuning", "", *("-16.00" for _ in range(10))),), ("note",), 2)
    out = io.StringIO()
    Console(file=out, width=width).print(table)
    shown = " ".join(out.getvalue().split())
    assert ("synthetic data lifts prompt tuning figure 0: -16.00; figure 1: -16.00;" in shown) is listed
    assert shown.endswith("note") and shown.count("-16.00") == 10 and all(
        word in out.getvalue() for word in table.rows[0][0].split())


@pytest.mark.parametrize("width", [70, 80, 84, 100, 120])
def test_a_table_with_a_long_text_column_is_as_wide_as_the_terminal(width):
    figure = "79.39 ± 10.29 (10)"
    table = Table("t", ("method", "a", "b", "c", "d"), (("DawGen: (Real, Syn) + GS", *[figure] * 4),))
    out = io.StringIO()
    Console(file=out, width=width).print(table)
    assert max(map(len, out.getvalue().splitlines())) <= width
    assert all(out.getvalue().count(part) == 4 for part in figure.split())


def test_latex():
    assert to_latex(TEX).splitlines() == [
        r"\begin{table}", r"\centering", r"\caption{\textbackslash{}input\{x\} 100\% \#1}", r"\begin{tabular}{lr}",
        r"\toprule", r"a\_b & \$x\textasciicircum{}2\$ \\", r"\midrule",
        r"{[}1ex{]} \textasciitilde{} & \shortstack[r]{{*} \\ \{\&\}} \\",
        r"{*} & \shortstack[r]{1 $\pm$ 2 \\ --} \\", r"\bottomrule", r"\end{tabular}",
        r"\par\smallskip\footnotesize note \textbackslash{}\textbackslash{} \}", r"\end{table}"]


def test_html():
    class Page(html.parser.HTMLParser):
        tags, text = (), ""

        def handle_starttag(self, tag, attrs):
            self.tags += (tag,)

        def handle_data(self, data):
            self.text += data + "|"

    page = Page()
    page.feed(tables_page("<script>", [HOSTILE]))
    assert not {"script", "b", "i"} & set(page.tags)
    for text in ("<script>", "[bold]t[/bold] | <b>", "*x*\ny <i>&", "_note_ [link]"):
        assert f"{text}|" in page.text


PIECES = st.lists(st.sampled_from([
    "\\", "{", "}", "$", "&", "#", "^", "_", "~", "%", "[1ex]", "*", "\n", "\\input{/etc/passwd}", "\\write18{ls}",
    "^^5c", "<script>", "</td></table>", "<!--", "-->", "&lt;", "\"", "'", " onload=", "javascript:", "`", "|",
    "](x)", "\r", "\0", "\x1b[2J", "\u2028", "\ud800", "ü", "a"]), max_size=6).map(
        lambda pieces: "a" + "".join(pieces))
OURS = [r"\\(begin|end)\{(table|tabular)\}", r"\\shortstack\[[lr]\]\{", r"\\caption\{",
        r"\\(centering|toprule|midrule|bottomrule|par|smallskip|footnotesize)\b",
        r"\\text(backslash|asciicircum|asciitilde|less|greater|bar)\{\}", r"\\[{}$&#_%]", r"\{[\[\]*]\}"]
"""What LaTeX is given of commands and escapes."""


def tags_of(page):
    """Its elements and their attributes, in order."""
    found = []

    class Page(html.parser.HTMLParser):
        def handle_starttag(self, tag, attrs):
            found.extend([tag, *(name for name, _ in attrs)])

    Page().feed(page)
    return found


@settings(deadline=None)  # the first example compiles the templates
@given(PIECES, PIECES, PIECES, PIECES)
def test_whatever_a_text_is_made_of_it_stays_a_text(title, column, cell, note):
    table = Table(title, (column, "b"), ((cell, "1"),), (note,))
    written = to_latex(table)
    braces = re.sub(r"\\[{}]", "", written)
    assert braces.count("{") == braces.count("}")
    for known in OURS:
        written = re.sub(known, "", written)
    assert not set(re.sub(r" \\\\(?! *[\[*])", "", written)) & set("\\$#_%^~[]*")  # ends of lines take no option
    plain = Table("t", ("c", "b"), (("a", "1"),), ("n",))
    assert tags_of(tables_page(title, [table])) == tags_of(tables_page("t", [plain]))
    assert len(to_markdown(table).splitlines()) == len(to_markdown(plain).splitlines())
