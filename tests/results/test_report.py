"""The report of an invented run: whole, valid, self-contained, with hostile text shown as text."""

import html.parser
import os
import re

import pytest

from dawgen_jax.errors import UserError
from dawgen_jax.methods.rows import METHODS
from dawgen_jax.results.report import write_report
from dawgen_jax.results.rows import SyntheticRow, write_cell, write_rows
from tests.results.invented import write, write_run, write_set

HOSTILE = "<script>alert('1')</script> & \"<b>"
VOID = {"meta", "br", "img", "link", "input", "hr"}


class Page(html.parser.HTMLParser):
    """Collects elements and text, and fails where an element is closed that is not open."""

    def __init__(self, text):
        super().__init__()
        self.open, self.tags, self.attributes, self.elements, self.text = [], [], [], [], ""
        self.feed(text)
        assert not self.open

    def handle_starttag(self, tag, attrs):
        self.elements.append((tag, attrs))
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
        self.text += data + " "


def text_of(path):
    """The text of a page, which parses; its words are one space apart."""
    return " ".join(Page(path.read_text(encoding="utf-8")).text.split())


@pytest.fixture(scope="module")
def run(tmp_path_factory, make_row):
    return write_run(tmp_path_factory.mktemp("runs") / "mini", make_row, HOSTILE)


def test_the_page_is_whole_and_self_contained(run):
    path = write_report(run)
    text = path.read_text(encoding="utf-8")
    page = Page(text)
    assert "script" not in page.tags and not any(name.startswith("on") for name, _ in page.attributes)
    # Nothing is loaded: no sheets or frames; addresses point into the page, images are part of it.
    assert not {"link", "iframe", "object", "svg"} & set(page.tags)
    assert all(value.startswith("#") for name, value in page.attributes if name == "href")
    images = [dict(attributes) for tag, attributes in page.elements if tag == "img"]
    assert images and all(image["src"].startswith("data:image/svg+xml,") and image["alt"] for image in images)
    assert "@import" not in text and {target[:3] for target in re.findall(r"url\((.{3})", text)} <= {"%23"}  # of '#'
    anchors = [value for name, value in page.attributes if name == "id"]
    assert len(anchors) == len(set(anchors))
    assert {value[1:] for name, value in page.attributes if name == "href"} <= set(anchors)
    assert [file.name for file in run.glob("*report*")] == ["report.html"]


def test_all_sections_show_their_data(run):
    page = Page(write_report(run).read_text(encoding="utf-8"))
    text = " ".join(page.text.split())
    for part in ("DawGen: (Real, Syn) + GS", "backbone mini-t5 is not in the paper",
                 "share of updates in which the two gradients conflict", "accuracy on dev",
                 "L_disc: discriminative loss", "Prompt Tuning (2)", "DawGen by mini-t5 (2)", "sentence 3",
                 "6 unfinished; 2 ", "synthetic data lifts prompt tuning", "12.3", "Computed with jax 0.10.2.",
                 "6 of 20 wrong", "mistaken", "true: ", "predicted: neutral", "gradient surgery", "margin +2.50",
                 "margin -2.00", "near copy of 1", "cut", "label consistency", "distinct-2", "distance from real",
                 "copies", "p cannot be below .5", "✗ not a sentence of the mini world"):
        assert part in text, part
    assert "Syn only" not in text  # a cell of an earlier configuration
    assert text.count("Wanted, accepted and rejected") == 1


def test_the_title_names_method_task_arms_seeds_and_date(run):
    os.utime(run / "results.jsonl", (86400 * 365.25 * 40, 86400 * 365.25 * 40))
    page = Page(write_report(run).read_text(encoding="utf-8"))
    assert f"DawGen: (Real, Syn) + GS on mini-snli · run mini {HOSTILE} · 2 arms · 2 seeds (13, 21) · mini-t5 · 16 " \
           "examples per class · 1,000 test examples · 2010-01-01" in page.text


def test_the_verdict_comes_first_and_once_and_the_plot_is_above_the_tables(run):
    text = write_report(run).read_text(encoding="utf-8")
    verdict = "DawGen: (Real, Syn) + GS has the highest mean"
    places = [text.index(part) for part in (verdict, "With 2 seeds the order", 'id="results"', "data:image/svg+xml",
                                            "main results, accuracy")]
    assert places == sorted(places) and text.count(verdict) == 1


def test_three_curves_are_open_and_the_rest_is_folded(run):
    page = write_report(run).read_text(encoding="utf-8")
    section = page[page.index('id="prompt-tuning"'):page.index('id="generator-tuning"')]
    shown, folded = section.split("<details>")
    captions = re.compile("<figcaption>([^<]*)")
    assert captions.findall(shown) == ["accuracy on dev", "training loss: real solid, synthetic dashed",
                                       "share of updates in which the two gradients conflict"]
    assert captions.findall(folded) == ["cosine of the real and the synthetic gradient"]
    generators = page[page.index('id="generator-tuning"'):page.index('id="token-weights"')]
    assert generators.index("<details>") < generators.index("<figure>")


def test_generated_pairs_of_a_mini_task_are_marked_by_the_semantics(tmp_path):
    write_rows(tmp_path / "synthetic.jsonl", [write_set(tmp_path, "s", "DawGen", 13)])
    write(tmp_path / "synthetic" / "s" / "train.jsonl", [
        {"sentence1": "a boy runs .", "sentence2": sentence, "label": "entailment", "index": index}
        for index, sentence in enumerate(("a child moves .", "no boy runs .", "child a moves ."))], lines=True)
    text = text_of(write_report(tmp_path))
    for part in ("a child moves . ✓ label is right", "no boy runs . ✗ true label: contradiction",
                 "child a moves . ✗ not a sentence of the mini world", "flagged (2)"):
        assert part in text, part


def test_arms_of_unequal_length_are_marked(tmp_path, make_row):
    rows = []
    for method, steps in (("Prompt Tuning", 80), ("(Real, Syn)", 1200)):
        rows.append(make_row(method, config_hash=method, settings={"classifier.num_steps": steps}))
        write_cell(tmp_path / "cells" / method / "result.json", rows[-1:])
        write(tmp_path / "cells" / method / "metrics.jsonl",
              [{"step": 1, "loss_real": 1.0}, {"step": steps, "loss_real": 0.5}], lines=True)
    write_rows(tmp_path / "results.jsonl", rows)
    text = text_of(write_report(tmp_path))
    assert "different numbers of updates: 80: Prompt Tuning; 1,200: DawGen: (Real, Syn)." in text
    assert "Prompt Tuning (1), ✖ ends at update 80 DawGen: (Real, Syn) (1) " in text


def test_pairs_are_paged_by_radio_buttons_alone(run):
    page = Page(write_report(run).read_text(encoding="utf-8"))
    groups, targets = {}, []
    for tag, attributes in page.elements:
        given = dict(attributes)
        if tag == "input":
            groups.setdefault(given["name"], []).append((given["id"], "checked" in given))
        targets += [given["for"]] if "for" in given else []
    ids = [identity for group in groups.values() for identity, _ in group]
    assert sorted(ids) == sorted(set(targets)) and len(ids) == len(set(ids))
    assert all(sum(checked for _, checked in group) == 1 for group in groups.values())
    # FewGen and DawGen: two labels and the flagged ones, 60 pairs of 70 each, ten a page.
    assert sorted(map(len, groups.values())) == [3, 3] + 6 * [6]
    assert "entailment (70)" in page.text and "sentence 59" in page.text and "sentence 60" not in page.text


def test_a_large_set_of_long_sentences_stays_small(tmp_path):
    sets = []
    for backbone in ("a", "b"):
        sets.append(write_set(tmp_path, backbone, "DawGen", 13, backbone=backbone))
        write(tmp_path / "synthetic" / backbone / "train.jsonl", [
            {"sentence1": "w" * 5000, "sentence2": f"{i} " * 300, "label": f"label {i % 5}", "index": i}
            for i in range(250)
        ], lines=True)
    write_rows(tmp_path / "synthetic.jsonl", sets)
    path = write_report(tmp_path)
    assert path.stat().st_size < 1_000_000 and "label 4 (50)" in text_of(path)


def test_single_sentences_and_tasks_of_ones_own(tmp_path, make_row):
    rows = [make_row(method, value, task="my reviews", config_hash=method[:3], class_counts={"good": 600, "bad": 400})
            for method, value in (("Prompt Tuning", 0.7), ("(Real, Syn) + GS", 0.8))]
    for row in rows:
        folder = tmp_path / "cells" / row.config_hash
        write_cell(folder / "result.json", [row])
        write(folder / "wrong_examples.json", {
            "labels": ["good", "bad"], "confusion": [[500, 100], [200, 200]],
            "examples": [{"text": "dull .", "label": "bad", "predicted": "good"},
                         {"text": "fine", "label": "good", "predicted": "bad"}]})
    write_rows(tmp_path / "results.jsonl", rows)
    sample = SyntheticRow("my reviews", "mini-t5", "DawGen", 13, 2, 0.5, 0.2, 0.0)
    write_rows(tmp_path / "synthetic" / "set" / "quality.jsonl", [sample])
    write_rows(tmp_path / "synthetic.jsonl", [sample])
    write(tmp_path / "synthetic" / "set" / "train.jsonl", [
        {"text": "great film", "label": "good", "index": 0}, {"text": "bad film", "label": "bad", "index": 1}
    ], lines=True)
    text = text_of(write_report(tmp_path))
    for part in ("great film", "bad film", "dull .", "true: bad", "Dashed line: guessing, 50.00.", "guessing 50.00%",
                 "300 of 1,000 wrong"):
        assert part in text, part
    assert "copy of sentence 1" not in text and "mini tasks" not in text and "mini world" not in text.split("12")[0]


def test_sets_of_several_settings_are_not_mixed(tmp_path):
    rows = [SyntheticRow("mini-snli", "mini-t5", "DawGen", 13, 2, 0.5, 0.2, 0.0,
                         settings={"generator.num_steps": steps, "synthesis.top_k": 0}) for steps in (240, 480)]
    for row, folder in zip(rows, "ab", strict=True):
        write_rows(tmp_path / "synthetic" / folder / "quality.jsonl", [row])
        write(tmp_path / "synthetic" / folder / "meta.json", {"generator_artefact": folder})
        write(tmp_path / "synthetic" / folder / "train.jsonl", [
            {"sentence1": "x", "sentence2": f"of {folder}", "label": "neutral", "index": 0}], lines=True)
        write(tmp_path / "generators" / folder / "metrics.jsonl", [{"step": 1, "loss": 1.0}, {"step": 2, "loss": 0.5}],
              lines=True)
    write_rows(tmp_path / "synthetic.jsonl", rows)
    text = text_of(write_report(tmp_path))
    for part in ("DawGen [generator.num_steps=240] by mini-t5", "DawGen [generator.num_steps=480] by mini-t5", "of a",
                 "of b"):
        assert part in text, part


def test_names_of_arms_are_explained(tmp_path, make_row):
    write_rows(tmp_path / "results.jsonl", [
        make_row("(Real, Syn)", variant="cut+pool"), make_row("Real -> Syn", variant="stages", generator="FewGen"),
        make_row("a method of tomorrow", seed=21)])
    text = text_of(write_report(tmp_path))
    for part in ("#cut synthetic sentences that did not end", "#pool the generator continued",
                 "Real -> Syn #stages first on real examples", "(Real, Syn) every update adds", "FewGen an earlier",
                 "DawGen the paper's generator"):
        assert part in text, part
    assert all(method.about for method in METHODS.values())


def test_plots_name_their_lines(tmp_path, make_row):
    counts = {"a": 400, "b": 300, "c": 300}
    write_rows(tmp_path / "results.jsonl", [
        make_row(value=0.52, class_counts=counts), make_row(value=0.86, k_shot="full", class_counts=counts)])
    text = text_of(write_report(tmp_path))
    assert "Dashed line: guessing, 33.33. Dotted line: prompt tuning on the whole training pool, 86.00." in text


def test_what_an_earlier_setting_left_is_not_shown(tmp_path):
    earlier, current = (write_set(tmp_path, name, "DawGen", 13, diversity) for name, diversity in (
        ("old", 0.25), ("new", 0.5)))
    for name in ("old", "new"):
        write(tmp_path / "generators" / name / "metrics.jsonl", [{"step": 1, "loss": 1.0}], lines=True)
        write(tmp_path / "synthetic" / name / "train.jsonl",
              [{"label": "l", "index": 0, "sentence1": "s", "sentence2": f"written by the {name} one"}], lines=True)
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
    text = text[text.index("Token weights"):]
    for arm in ("DawGen: Syn only, 8 shots", "DawGen: Syn only", "DawGen: Syn only by big"):
        assert len(re.findall(rf"{arm}(?! by|,)", text)) == 2 and f"{arm} (1)" in text  # table, legend
    assert "DawGen by mini-t5 (1)" in text and "DawGen by big (1)" in text


def test_hostile_text_is_shown_as_text(run):
    text = write_report(run).read_text(encoding="utf-8")
    page = Page(text)
    assert "<script" not in text and "%3Cscript" not in text and "<b>" not in text
    # Title, heading, token weights, 60 samples per label of two generators, tabs, matrices, counts, timings, config.
    assert page.text.count("<script>alert('1')</script> &") >= 240


def test_labels_of_other_scripts_are_shown_as_they_are(tmp_path, make_row):
    labels = ["\u0645\u06cc\u200c\u062e\u0648\u0627\u0647\u0645", "\U0001f469\u200d\U0001f4bb"]  # with joiners
    row = make_row(task="own", config_hash="x", class_counts=dict.fromkeys(labels, 500))
    write_cell(tmp_path / "cells" / "x" / "result.json", [row])
    write(tmp_path / "cells" / "x" / "wrong_examples.json", {
        "labels": labels, "confusion": [[4, 1], [0, 2]],
        "examples": [{"text": "a", "label": labels[0], "predicted": labels[1]}]})
    write_rows(tmp_path / "results.jsonl", [row])
    text = text_of(write_report(tmp_path))
    for part in (f"true: {labels[0]} predicted: {labels[1]}", f"{labels[0]} 4 1", "1 of 7 wrong"):
        assert part in text, part


def test_the_same_run_gives_the_same_page(run):
    assert write_report(run).read_bytes() == write_report(run).read_bytes()


def test_shades_are_relative_to_the_heaviest_token(tmp_path):
    write_rows(tmp_path / "synthetic.jsonl", [write_set(tmp_path, "g", "DawGen", 13)])
    write(tmp_path / "generators" / "g" / "token_weights.json", [
        {"sentence1": "s", "label": "l", "tokens": ["▁a", "b", "</s>", "▁"], "weights": [0.1, 0.4, 0.0, 0.8]}])
    text = write_report(tmp_path).read_text(encoding="utf-8")
    assert re.findall(r'--w: ([\d.]+)" title="[\d.]+">([^<]*)<', text) == [
        ("0.125", " a"), ("0.500", "b"), ("0.000", "&lt;/s&gt;"), ("1.000", " \N{NO-BREAK SPACE}")]


def test_all_shades_have_one_scale(tmp_path):
    sets = []
    for name, weight in (("FewGen", 0.1), ("DawGen", 0.4)):
        sets.append(write_set(tmp_path, name, name, 13))
        write(tmp_path / "generators" / name / "token_weights.json", [
            {"sentence1": "s", "label": "l", "tokens": [f"▁{name}"], "weights": [weight]}])
    write_rows(tmp_path / "synthetic.jsonl", sets)
    text = write_report(tmp_path).read_text(encoding="utf-8")
    assert re.findall(r'--w: ([\d.]+)" title="[\d.]+"> (\w+)', text) == [("0.250", "FewGen"), ("1.000", "DawGen")]
    assert [float(shown) for shown in re.findall(r'--w: [\d.]+">([\d.]+)', text)] == [0, 0.1, 0.2, 0.3, 0.4]


def test_an_empty_run_is_a_page_of_sentences(tmp_path):
    page = Page(write_report(tmp_path).read_text(encoding="utf-8"))
    assert page.text.count("yet") >= 4 and "img" not in page.tags
    with pytest.raises(UserError, match="nowhere: no such run directory"):
        write_report(tmp_path / "nowhere")


def test_broken_artefacts_are_named_and_an_earlier_page_stays(tmp_path, make_row):
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
    write(samples, [{"text": "a", "label": "b", "index": 0}], lines=True)
    write_report(tmp_path)  # one text is enough
    write(samples, [{"sentence1": "a", "sentence2": ["b"], "label": "c"}], lines=True)
    with pytest.raises(UserError, match=r"train.jsonl:1: SampleLine.index: is missing"):
        write_report(tmp_path)
    samples.unlink()
    row = make_row(config_hash="x")
    write_cell(tmp_path / "cells" / "x" / "result.json", [row])
    write_rows(tmp_path / "results.jsonl", [row])
    write(tmp_path / "cells" / "x" / "wrong_examples.json", {"labels": ["a", "b"], "confusion": [[1]], "examples": []})
    with pytest.raises(UserError, match=r"wrong_examples.json: Mistakes.confusion: must have a row"):
        write_report(tmp_path)


NO_SAMPLE = r"train\.jsonl:1: not a synthetic sample"
SENTENCE = {"sentence1": "a", "label": "b", "tokens": ["c"], "weights": [0.5]}


@pytest.mark.parametrize(("name", "value", "message"), [
    ("timings.json", {"a": "1"}, r"timings\.json: a = '1': must be a number; remove the file"),
    ("synthetic/s/meta.json", {"generator_artefact": [1]}, r"meta\.json: Meta.generator_artefact = \[1\]: must be"),
    ("synthetic/s/train.jsonl", [SENTENCE | {"sentence2": "d", "label": ["b"]}], NO_SAMPLE),
    ("synthetic/s/train.jsonl", [SENTENCE | {"sentence2": 3}], NO_SAMPLE),
    ("generators/g/metrics.jsonl", [{"step": "1", "loss": 1}],
     r"metrics\.jsonl:1: .* must have a number as 'step'; remove its folder"),
    *(("generators/g/token_weights.json", [SENTENCE, wrong], r"token_weights\.json: \[1\]")
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
