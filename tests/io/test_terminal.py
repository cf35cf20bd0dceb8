"""What a terminal is shown: text that tries to steer it, progress, the time left."""

import io
import logging
import sys
import time
import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dawgen_jax.io import terminal
from dawgen_jax.io.terminal import Pace, Step, plain, printable, progress


@given(st.text(st.characters(exclude_categories=())))
def test_no_control_character_is_left_and_other_text_is_untouched(text):
    shown = printable(text)
    kinds = ("Cc", "Cs", "Zl", "Zp")
    assert not [character for character in shown if unicodedata.category(character) in kinds]
    assert printable(shown) == shown
    assert shown == text or len(shown) > len(text)


def test_escapes_and_line_breaks():
    assert printable("a\x1b[2Jb\r\nc\x9b") == r"a\x1b[2Jb\r\nc\x9b"
    assert printable("a\tb\nc\r", lines=True) == "a\tb\nc\\r"
    assert printable("naïve – 日本 👩\u200d🔬 \\x1b") == "naïve – 日本 👩\u200d🔬 \\x1b"
    assert printable("file\udcff") == r"file\udcff" and printable(3) == "3"
    assert plain("[red]:bug:\x1b\n").plain == "[red]:bug:\\x1b\n"


class Screen(io.StringIO):
    """Standard error as a terminal."""

    def isatty(self):
        return True


@pytest.fixture
def clock(monkeypatch):
    """Seconds that a test sets, in a program that shows progress and has shown none yet."""
    now = [0.0]
    monkeypatch.setattr(time, "monotonic", lambda: now[0])
    monkeypatch.setattr(terminal._Bar, "_printed", -1e9)
    logger = logging.getLogger("dawgen_jax")
    before = logger.level
    logger.setLevel(logging.INFO)
    yield now
    logger.setLevel(before)


STEPS = {("generators", "DawGen"): Step("stage 1/2", 100.0, 10), ("cells", "a"): Step("stage 2/2, arm 1/2", 6000.0, 60),
         ("cells", "b"): Step("stage 2/2, arm 2/2", 6000.0, 60)}


def test_the_time_left_comes_from_timed_updates_and_shrinks(clock):
    pace = Pace(STEPS)
    assert pace.left == pace.place == ""
    with pace.step("generators", "DawGen"):
        pace.report(5, timed=False)  # by an earlier process
        clock[0] = 500.0  # compilation, which is not timed
        pace.report(1)
        assert pace.left == "" and pace.place == "stage 1/2"
        clock[0] = 504.0
        pace.report(2)  # 20 operations in 4 seconds: 5 a second, 20 left here and 12,000 in the arms
        assert pace.left == f"about {round((20 / 5 + 12000 / 5) / 60)} minutes left"
    assert pace.left == "about 40 minutes left"
    with pace.step("cells", "a"):
        pace.report(2)
        clock[0] += 500.0  # compilation, in the first twentieth
        pace.report(1)
        clock[0] += 1.0
        pace.report(2)  # 200 operations per second: arms have their own rate
        assert pace.left == "less than a minute left"  # 55 and 60 updates at 2 per second
    with pace.step("cells", "c"):
        pace.report(1)  # outside of the plan
        assert pace.place == ""
    with pace.step("cells", "b"):
        pass
    assert pace.left == ""


def test_elsewhere_than_on_a_terminal_there_is_a_plain_line_every_ten_seconds(clock, monkeypatch):
    monkeypatch.setattr(sys, "stderr", io.StringIO())
    pace = Pace(STEPS)
    with pace.step("cells", "a"), progress(60, "mini-snli FT\x1b[1m") as bar:
        for _ in range(30):
            clock[0] += 1.0
            bar.update(1)
            bar.set_postfix_str("dev accuracy 62.5 %")
    with pace.step("cells", "b"), progress(60, "mini-snli LoRA"):
        pass
    lines = sys.stderr.getvalue().splitlines()
    assert "\r" not in sys.stderr.getvalue() and len(lines) == 3
    assert lines[0] == "stage 2/2, arm 1/2: mini-snli FT\\x1b[1m: 1 of 60 updates, dev accuracy 62.5 %"
    assert lines[1].startswith("stage 2/2, arm 1/2: mini-snli FT\\x1b[1m: 11 of 60 updates, dev accuracy 62.5 %")
    assert lines[1].endswith(", about 2 minutes left") and ": 21 of 60 updates" in lines[2]


def test_a_terminal_has_a_bar_that_disappears(clock, monkeypatch):
    monkeypatch.setattr(sys, "stderr", Screen())
    with progress(4, "toy", unit="samples") as bar:
        bar.update(4)
        bar.refresh()
    shown = sys.stderr.getvalue()
    assert "toy: 100%|" in shown and "4 of 4 samples [" in shown
    assert shown.endswith("\r") and "\n" not in shown


def test_a_program_may_hide_progress(clock, monkeypatch):
    monkeypatch.setattr(sys, "stderr", io.StringIO())
    logging.getLogger("dawgen_jax").setLevel(logging.WARNING)
    with Pace(STEPS).step("cells", "a"), progress(4, "toy") as bar:
        bar.update(4)
    assert sys.stderr.getvalue() == ""
