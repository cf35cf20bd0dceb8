"""The report of an invented run: whole, valid, self-contained, with hostile text shown as text."""

import html.parser
import itertools
import json
import math
import re

import numpy as np
import pytest

from dawgen_jax.config import UserError
from dawgen_jax.results import curves
from dawgen_jax.results.report import shaded_words, write_report
from dawgen_jax.results.rows import SyntheticRow, write_cell, write_rows

HOSTILE = "<script>alert('1')</script> & \"<b>"
VOID = {"meta", "br", "img", "link", "input", "hr"}


class Page(html.parser.HTMLParser):
    """Collects elements and text, and fails where an element is closed that is not open."""

    def __init__(self, text):
        super().__init__()
        self.open, self.tags, self.attributes, self.text = [], [], [], ""
        self.feed(text)
        assert not self.open

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self.attributes += attrs
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.tags.append(tag)
        self.attributes += attrs

    def handle_endtag(self, tag):
        assert self.open.pop() == tag, tag

    def handle_data(self, data):
        self.text += data


def write(path, value, lines=False):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps(line) + "\n" for line in value) if lines else json.dumps(value))


def write_set(root, folder, generator, seed, diversity=0.5, backbone="mini-t5"):
    """The row of an invented synthetic set, whose folder names the generator's, of the same name."""
    row = SyntheticRow("mini-snli", backbone, generator, seed, 9, diversity, 0.2, 0.1)
    write_rows(root / "synthetic" / folder / "quality.jsonl", [row])
    write(root / "synthetic" / folder / "meta.json", {"generator_artefact": folder})
    return row


@pytest.fixture(scope="module")
def run(tmp_path_factory, make_row):
    root = tmp_path_factory.mktemp("runs") / "mini"
    rng = np.random.default_rng(0)
    rows = []
    for seed, method in itertools.product((13, 21), ("Prompt Tuning", "(Real, Syn) + GS")):
        name = f"mini-snli-mini-t5-{method[:6].strip('(')}-{seed}-abc"
        cell = [make_row(method, 0.5 + rng.uniform(0, 0.2), seed, config_hash=name, metric=metric,
                         versions={"jax": "0.10.2"}) for metric in ("accuracy", "f1")]
        rows += cell
        write_cell(root / "cells" / name / "result.json", cell)
        lines = [{"step": step, "loss_real": math.exp(-step / 50), "prompt_norm": 3.0} for step in range(1, 201)]
        if "Syn" in method:
            lines = [line | {"cosine": rng.normal(), "conflict": bool(rng.integers(2)), "loss_synthetic": float("nan")}
                     for line in lines]
        lines[-1] |= {"dev_accuracy": 0.6, "histogram": [1, 2]}
        write(root / "cells" / name / "metrics.jsonl", lines, lines=True)
    stale = make_row("Syn only", config_hash="old")
    write_cell(root / "cells" / "old" / "result.json", [stale])
    write(root / "cells" / "old" / "metrics.jsonl", [{"step": 1, "loss_real": 1.0}], lines=True)
    write_rows(root / "results.jsonl", rows)
    sets = []
    for generator, seed in itertools.product(("FewGen", "DawGen"), (13, 100)):
        name = f"mini-snli-{generator}-{seed}-0a1b"
        sets.append(write_set(root, name, generator, seed))
        folder = root / "generators" / name
        write(folder / "metrics.jsonl", [{"step": step, "loss": 1 / step, "loss_disc": 0.5}
                                         for step in range(10, 330, 10)], lines=True)
        write(folder / "token_weights.json", [{"sentence1": f"{HOSTILE} {seed}", "label": "entailment",
                                               "tokens": ["▁a", "▁do", "g", "<b>", "</s>"],
                                               "weights": [0.1, 0.05, 0.2, 0.0, 0.4]}])
        folder = root / "synthetic" / name
        write(folder / "train.jsonl", [{"sentence1": HOSTILE, "sentence2": f"sentence {index}", "label": label}
                                         for index in range(9) for label in ("entailment", "neutral")], lines=True)
        write(folder / "counts.json", {"entailment": {"wanted": 9, "rejected": {"unfinished": 3, HOSTILE: 1}},
                                       "neutral": {"wanted": 9, "rejected": {"empty": 2}}, "corpus": HOSTILE})
    write_rows(root / "synthetic.jsonl", sets)
    write(root / "generators" / ".mini-snli-DawGen-7-ff.partial" / "metrics.jsonl", [{"step": 1}], lines=True)
    write(root / "config.json", {"name": f"mini {HOSTILE}", "tasks": ["mini-snli"]})
    write(root / "timings.json", {"tune generators": 12.3, HOSTILE: 0.0})
    return root


def test_the_page_is_whole_and_self_contained(run):
    path = write_report(run)
    text = path.read_text(encoding="utf-8")
    page = Page(text)
    assert "script" not in page.tags and not any(name.startswith("on") for name, _ in page.attributes)
    # Nothing is loaded: no images, links or sheets from elsewhere; addresses point into the page.
    assert not {"link", "img", "iframe", "object"} & set(page.tags)
    assert all(value.startswith("#") for name, value in page.attributes if name in ("href", "xlink:href", "src"))
    assert "@import" not in text and all(target == "#" for target in re.findall(r"url\((.)", text))
    anchors = {value for name, value in page.attributes if name == "id"}
    assert {value[1:] for name, value in page.attributes if name == "href"} <= anchors
    assert [file.name for file in run.glob("*report*")] == ["report.html"]


def test_all_sections_show_their_data(run):
    page = Page(write_report(run).read_text(encoding="utf-8"))
    for text in ("DawGen: (Real, Syn) + GS", "backbone mini-t5 is not in the paper", "conflict rate (cosine below 0)",
                 "accuracy on dev", "L_disc: discriminative loss", "Prompt Tuning (2)",
                 "DawGen by mini-t5 (2)", "sentence 3", "rejected: unfinished", "synthetic data lifts prompt tuning",
                 "12.3", "Computed with jax 0.10.2.", "seeds: 13, 21."):
        assert text in page.text, text
    assert "Syn only" not in page.text  # a cell of an earlier configuration
    assert "sentence 4" not in page.text  # four samples a label
    assert "loss on synthetic pairs" not in page.text  # nothing finite to draw


def test_what_an_earlier_setting_left_is_not_shown(tmp_path):
    earlier, current = (write_set(tmp_path, name, "DawGen", 13, diversity) for name, diversity in (
        ("old", 0.25), ("new", 0.5)))
    for name in ("old", "new"):
        write(tmp_path / "generators" / name / "metrics.jsonl", [{"step": 1, "loss": 1.0}], lines=True)
        write(tmp_path / "synthetic" / name / "train.jsonl",
              [{"label": "l", "sentence1": "s", "sentence2": f"written by the {name} one"}], lines=True)
    for rows, shown, hidden in (([current], "new", "old"), ([earlier], "old", "new")):
        write_rows(tmp_path / "synthetic.jsonl", rows)
        page = Page(write_report(tmp_path).read_text(encoding="utf-8"))
        assert "DawGen by mini-t5 (1)" in page.text
        assert f"written by the {shown} one" in page.text and f"written by the {hidden} one" not in page.text


def test_shots_and_writers_are_told_apart(tmp_path, make_row):
    rows, sets = [], []
    for k_shot, writer in ((8, "mini-t5"), (16, "mini-t5"), (16, "big")):
        name = f"{writer}-{k_shot}"
        rows.append(make_row("Syn only", k_shot=k_shot, generator_backbone=writer, config_hash=name))
        write_cell(tmp_path / "cells" / name / "result.json", rows[-1:])
        write(tmp_path / "cells" / name / "metrics.jsonl", [{"step": 1, "loss_synthetic": 1.0}], lines=True)
    for writer in ("mini-t5", "big"):
        sets.append(write_set(tmp_path, writer, "DawGen", 13, backbone=writer))
        write(tmp_path / "generators" / writer / "metrics.jsonl", [{"step": 1, "loss": 1.0}], lines=True)
    write_rows(tmp_path / "results.jsonl", rows)
    write_rows(tmp_path / "synthetic.jsonl", sets)
    text = Page(write_report(tmp_path).read_text(encoding="utf-8")).text
    for arm in ("DawGen: Syn only, 8 shots", "DawGen: Syn only", "DawGen: Syn only by big"):
        assert len(re.findall(rf"{arm}(?! by|,)", text)) == 3 and f"{arm} (1)" in text  # table, strip, legend
    assert "DawGen by mini-t5 (1)" in text and "DawGen by big (1)" in text


def test_hostile_text_is_shown_as_text(run):
    text = write_report(run).read_text(encoding="utf-8")
    page = Page(text)
    assert "<script" not in text and "<b>" not in re.sub(r'<b style="--x:[\d.]+%"></b>', "", text)
    # Title and heading, token weights, samples (2 labels x 4 x 2 generators), counts, timings, config.
    assert page.text.count("<script>alert('1')</script> &") >= 20


def test_the_same_run_gives_the_same_page(run):
    assert write_report(run).read_bytes() == write_report(run).read_bytes()


def test_shades_are_relative_to_the_heaviest_token():
    example = {"sentence1": "s", "label": "l", "tokens": ["▁a", "b", "</s>"], "weights": [0.1, 0.4, 0.0]}
    shown = shaded_words(example)
    assert re.findall(r"--w:([\d.]+)", shown) == ["0.250", "1.000", "0.000"]
    assert ">a</span><span" in shown and "&lt;/s&gt;" in shown  # pieces of a word stand together
    assert "0.000" in shaded_words(example | {"weights": [0.0, 0.0, 0.0]})


def test_an_empty_run_is_a_page_of_sentences(tmp_path):
    page = Page(write_report(tmp_path).read_text(encoding="utf-8"))
    assert page.text.count("yet") >= 4 and "svg" not in page.tags
    with pytest.raises(UserError, match="nowhere: no such run directory"):
        write_report(tmp_path / "nowhere")


def test_broken_artefacts_are_named_and_an_earlier_page_stays(tmp_path):
    before = write_report(tmp_path).read_bytes()
    write_rows(tmp_path / "synthetic.jsonl", [write_set(tmp_path, "t-DawGen-1-a", "DawGen", 1)])
    metrics = tmp_path / "generators" / "t-DawGen-1-a" / "metrics.jsonl"
    metrics.parent.mkdir(parents=True)
    metrics.write_text('{"step": 1, "loss": 2.0}\n{"step": 2, "lo')
    with pytest.raises(UserError, match=r"metrics.jsonl:2: not JSON"):
        write_report(tmp_path)
    assert (tmp_path / "report.html").read_bytes() == before
    metrics.unlink()
    samples = tmp_path / "synthetic" / "t-DawGen-1-a" / "train.jsonl"
    write(samples, [{"sentence1": "a", "label": "b"}], lines=True)
    with pytest.raises(UserError, match=r"train.jsonl:1: no sample with"):
        write_report(tmp_path)


def test_binning_keeps_means_and_spread():
    steps = np.arange(1, 1001)
    runs = [(steps, np.ones(1000)), (steps, np.full(1000, 3.0))]
    step, mean, least, greatest = curves.binned(runs, bins=10)
    assert step.shape == (10,) and np.all(np.diff(step) > 0)
    np.testing.assert_allclose(step, np.arange(10) * 100 + 50.5, atol=0.6)
    assert set(mean) == {2.0} and set(least) == {1.0} and set(greatest) == {3.0}
    sparse = curves.binned([([0, 200], [0.1, 0.3]), ([0], [0.3])], bins=10)
    np.testing.assert_allclose(sparse, [[0, 200], [0.2, 0.3], [0.1, 0.3], [0.3, 0.3]])


def test_panels_take_their_colours_from_the_page():
    svg = curves.draw({0: [([1, 2], [1.0, 2.0])], curves.PALETTE + 1: [([1, 2], [2.0, 1.0])]}, "a & b")
    assert "var(--s0)" in svg and "var(--s1)" in svg and "stroke-dasharray" in svg and 'aria-label="a &amp; b"' in svg
    assert not re.search(r"#[0-9a-f]{6}", svg) and "<style" not in svg and "DejaVu" not in svg


SENTENCE = {"sentence1": "a", "label": "b", "tokens": ["c"], "weights": [0.5]}


@pytest.mark.parametrize(("name", "value", "message"), [
    ("timings.json", {"a": "1"}, r"timings\.json: 'a' is '1', not a number of seconds"),
    ("synthetic/s/meta.json", {"generator_artefact": [1]}, r"meta\.json: 'generator_artefact' is \[1\], not a name"),
    ("synthetic/s/train.jsonl", [SENTENCE | {"sentence2": "d", "label": ["b"]}], r"train\.jsonl:1: no sample with"),
    ("synthetic/s/train.jsonl", [SENTENCE | {"sentence2": 3}], r"train\.jsonl:1: no sample with"),
    ("generators/g/metrics.jsonl", [{"step": "1", "loss": 1}], r"metrics\.jsonl:1: no line of figures"),
    *(("generators/g/token_weights.json", [SENTENCE, wrong], r"token_weights\.json\[1\]: no sentence with")
      for wrong in (3, {}, SENTENCE | {"tokens": [1]}, SENTENCE | {"tokens": "c"}, SENTENCE | {"weights": [0.5, 1]},
                    SENTENCE | {"weights": ["a"]}, SENTENCE | {"weights": [None]}, SENTENCE | {"label": {}})),
])
def test_inputs_of_the_wrong_type_are_named(tmp_path, name, value, message):
    write_rows(tmp_path / "synthetic.jsonl", [write_set(tmp_path, "s", "DawGen", 1)])
    write(tmp_path / "synthetic" / "s" / "meta.json", {"generator_artefact": "g"})
    (tmp_path / "generators" / "g").mkdir(parents=True)
    write(tmp_path / name, value, lines=name.endswith("jsonl"))
    with pytest.raises(UserError, match=message):
        write_report(tmp_path)
