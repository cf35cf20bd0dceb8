"""What a terminal is shown of text that tries to steer it."""

import unicodedata

from hypothesis import given
from hypothesis import strategies as st

from dawgen_jax.io.terminal import plain, printable


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
