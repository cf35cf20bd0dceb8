"""The properties: what reads an input takes it, and then it is sane, or refuses it in one sentence."""

import contextlib
import dataclasses
import functools
import io
import json
import math
import pathlib
import tempfile
from typing import Any

import jax
import numpy as np
from hypothesis import strategies as st
from rich.console import Console
from safetensors import safe_open
from safetensors.numpy import save

from dawgen_jax import prompts
from dawgen_jax.backbones.t5 import convert
from dawgen_jax.backbones.t5.model import abstract
from dawgen_jax.cli import options
from dawgen_jax.cli.evaluate import load_prompt
from dawgen_jax.config import Config, DataConfig, digest, fields_of, load_config
from dawgen_jax.data.corpora import first_sentences
from dawgen_jax.data.documents import read_documents
from dawgen_jax.data.pools import read_examples
from dawgen_jax.errors import UserError
from dawgen_jax.io.metadata import read_meta
from dawgen_jax.io.metrics_log import read_metrics
from dawgen_jax.results.claims import claims
from dawgen_jax.results.measures import conflict_table, quality_table
from dawgen_jax.results.render import to_latex, to_markdown
from dawgen_jax.results.report import tables_page, write_report
from dawgen_jax.results.report.reading import read_mistakes, read_timings, read_token_weights
from dawgen_jax.results.rows import Row, SyntheticRow, read_cell, read_rows, write_rows
from dawgen_jax.results.tables import result_tables
from dawgen_jax.synthesis.files import read_counts, read_set
from dawgen_jax.tasks import SEVEN
from tests import tiny
from tests.fuzz import own, stored, strategies
from tests.fuzz.runner import IN, Property, put
from tests.fuzz.strategies import DAMAGE, VALUES, changed, lines

TASK = dataclasses.replace(SEVEN["RTE"], source_words=(0, 0))


def _data(given: tuple[str, bytes]) -> None:
    for example in read_examples(put(*given), TASK):
        assert all(isinstance(text, str) for text in example) and example.label in TASK.labels
        "".join(example).encode()


def _text(given: tuple[str, bytes]) -> None:
    path = put(*given)
    for document in read_documents(path).texts:
        assert all(sentence.strip() for sentence in document)
    assert all(sentence.split() for sentence in first_sentences(TASK, DataConfig(corpus=str(path))))


FIELDS = list(fields_of(Config()))


def _field(given: tuple[str, Any]) -> None:
    path, value = given
    *owners, name = path.split(".")
    config = dataclasses.replace(functools.reduce(getattr, owners, Config()), **{name: value})
    kept = getattr(config, name)
    unset = kept is None and value is None and getattr(functools.reduce(getattr, owners, Config()), name) is None
    assert unset or type(kept) in (str, int, float, bool, tuple)
    assert not (isinstance(kept, float) and not math.isfinite(kept))
    assert hash(config) is not None and digest(config) and json.loads(json.dumps(dataclasses.asdict(config)))


def _config_file(given: tuple[dict, Any]) -> None:
    fields, damage = given
    words = ", ".join(f"{name}={value!r}" for name, value in fields.items())
    text = f"from dawgen_jax.config import Config\n\n\ndef get_config():\n    return Config({words})\n"
    content = text.encode(errors="replace").replace(b"inf", b"1e999").replace(b"nan", b"(1e999 - 1e999)")
    config = load_config(str(put("config.py", damage(content))))
    assert isinstance(config, Config) and all(0 <= seed < 2**31 for seed in config.seeds)


def _override(given: tuple[str, str]) -> None:
    put("config.py", b"from dawgen_jax.config import Config\ndef get_config():\n    return Config()\n")
    told = io.StringIO()
    try:
        with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(told):
            config = options.parse_config(["in/config.py", f"--{given[0]}", given[1]], "").config
    except SystemExit as ended:  # the parser of options has said what is wrong in a box
        assert ended.code == 2 and "Traceback" not in told.getvalue()
        raise UserError("The parser of options refuses it.") from None
    assert given[0] == "name" or fields_of(config).keys() == fields_of(Config()).keys()


ROW = dataclasses.asdict(Row("RTE", "T5-large", "(Real, Syn) + GS", "accuracy", 0.5, 277, 13, "DawGen", "T5-large",
                             class_counts={"entailment": 146, "not_entailment": 131}, versions={"jax": "0.10.2"},
                             settings={"classifier.epsilon": 1.0},
                             extras={"conflict_rate": 0.2, "cosine": 0.1, "accuracy_words_exchanged": 0.5}))
SET = dataclasses.asdict(SyntheticRow("RTE", "T5-large", "DawGen", 13, 100, 0.5, 0.4, 0.1, consistency=0.9))


def _show(rows: list[Row], sets: list[SyntheticRow]) -> None:
    console = Console(file=io.StringIO(), width=200)
    for table in (*result_tables(rows), *result_tables(rows, "f1"), *claims(rows, sets), quality_table(sets),
                  conflict_table(rows)):
        console.print(table)
        assert tables_page("t", [table])
        for write in (to_latex, to_markdown):
            assert not {"\r", "\x1b"} & set(write(table))
    assert "\x1b[31m" not in console.file.getvalue()


def _again(rows: list) -> None:
    """What was read is written the same again and again."""
    for name in ("a", "b"):
        write_rows(f"out/{name}", rows)
        rows = read_rows(f"out/{name}", type(rows[0])) if rows else []
    assert pathlib.Path("out/a").read_bytes() == pathlib.Path("out/b").read_bytes()


def _rows(given: tuple[list[dict], Any]) -> None:
    rows = read_rows(put("results.jsonl", given[1](lines(given[0]))))
    _show(rows, [])
    _again(rows)


def _sets(given: tuple[list[dict], Any]) -> None:
    rows = read_rows(put("synthetic.jsonl", given[1](lines(given[0]))), SyntheticRow)
    _show([], rows)
    _again(rows)


SAMPLE = {"sentence1": "a", "sentence2": "b", "label": "entailment", "index": 3, "cut": False, "scores": [-1.0, -2.5]}
COUNT = {"wanted": 5, "made": 6, "accepted": 5, "kept": 5, "cut": 0, "surplus": 0, "rejected": {"empty": 1}}


def _samples(given: tuple[list[dict], dict, Any]) -> None:
    samples, count, damage = given
    put("train.jsonl", damage(lines(samples)))
    put("counts.json", json.dumps({"entailment": count}).encode())
    for sample in read_set(IN):
        assert all(isinstance(text, str) for text in sample.example) and type(sample.index) is int
        assert isinstance(sample.cut, bool) and all(map(math.isfinite, sample.scores))
    assert all(label.wanted >= 0 for label in read_counts(IN).values())


def _prompt(content: bytes) -> None:
    path = put("prompt.safetensors", content)
    assert all(array.dtype == np.float32 and np.isfinite(array).all() for array in prompts.load(path).values())
    assert load_prompt(str(path), 4, "a backbone").shape[1] == 4


@functools.cache
def checkpoint() -> tuple[dict, dict[str, np.ndarray]]:
    """config.json and tensors of a tiny T5."""
    theta = jax.tree.map(lambda leaf: np.ones(leaf.shape, leaf.dtype), abstract(tiny.T5))
    with tempfile.TemporaryDirectory() as folder:
        convert.save(folder, tiny.T5, theta)
        with safe_open(f"{folder}/model.safetensors", "np") as file:
            weights = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (no dictionary)
        return json.loads(pathlib.Path(folder, "config.json").read_text()), weights


@st.composite
def _checkpoints(draw) -> dict[str, bytes]:
    config, weights = checkpoint()
    if draw(st.booleans()):
        name = draw(st.sampled_from(sorted(weights)))
        weights = weights | {name: draw(strategies.tensors(weights[name].shape))}
    elif draw(st.booleans()):
        config = draw(changed(config))
    files = {"config.json": json.dumps(config).encode(), "model.safetensors": save(weights)}
    if draw(st.integers(0, 4)) == 0:
        index = draw(VALUES | st.dictionaries(st.text(max_size=3), VALUES | st.just("model.safetensors"), max_size=2))
        files["model.safetensors.index.json"] = json.dumps({"weight_map": index}).encode()
    hurt = draw(st.sampled_from(sorted(files)))
    return files | {hurt: draw(DAMAGE)(files[hurt])}


def _load(files: dict[str, bytes]) -> None:
    for name, content in files.items():
        put(name, content)
    config, theta = convert.load(IN)
    assert theta["embedding"].shape == (config.vocab_size, config.d_model) and np.isfinite(theta["embedding"]).all()


MISTAKES = {"labels": ["a", "b"], "confusion": [[3, 1], [0, 2]],
            "examples": [{"text": "c", "label": "a", "predicted": "b"}]}
WEIGHTS = {"sentence1": "a", "label": "entailment", "tokens": ["▁a", "b"], "weights": [0.5, 0.1]}
ARTEFACTS = {
    "config.json": changed({"name": "a run"}), "timings.json": changed({"synthesize": 1.5}),
    "synthetic/s-1/meta.json": changed({"generator_artefact": "g-1"}),
    "synthetic/s-1/counts.json": st.dictionaries(st.just("entailment"), VALUES | changed(COUNT)) | VALUES,
    "generators/g-1/token_weights.json": st.lists(changed(WEIGHTS) | VALUES, max_size=2),
    "cells/c-1/wrong_examples.json": changed(MISTAKES),
    "cells/c-1/result.json": st.lists(changed(ROW | {"config_hash": "h"}), max_size=2),
}
LINES = {"synthetic/s-1/train.jsonl": SAMPLE, "generators/g-1/metrics.jsonl": {"step": 1, "loss": 0.5},
         "cells/c-1/metrics.jsonl": {"step": 1, "dev_accuracy": 0.5}}


@st.composite
def _artefact(draw) -> tuple[str, bytes]:
    """(name, content) of a file that the report reads."""
    name = draw(st.sampled_from([*ARTEFACTS, *LINES]))
    content = (json.dumps(draw(ARTEFACTS[name] | VALUES)).encode() if name in ARTEFACTS
               else lines(draw(st.lists(changed(LINES[name]) | VALUES, max_size=2))))
    return name, draw(DAMAGE)(content)


def _artefacts(given: tuple[str, bytes]) -> None:
    path = put(*given)
    readers = {"timings.json": read_timings, "meta.json": lambda path: read_meta(path.parent),
               "token_weights.json": read_token_weights,
               "metrics.jsonl": read_metrics, "train.jsonl": lambda path: read_set(path.parent),
               "wrong_examples.json": read_mistakes,
               "result.json": read_cell, "counts.json": lambda path: read_counts(path.parent)}
    readers.get(path.name, lambda _: None)(path)


def _report(given: tuple[str, bytes]) -> None:
    put("results.jsonl", lines([ROW | {"config_hash": "h"}]))
    put("cells/c-1/result.json", json.dumps([ROW | {"config_hash": "h"}]).encode())
    for name in ("synthetic.jsonl", "synthetic/s-1/quality.jsonl"):
        put(name, lines([SET]))
    put("synthetic/s-1/meta.json", b'{"generator_artefact": "g-1"}')
    put("generators/g-1/token_weights.json", json.dumps([WEIGHTS]).encode())
    put(*given)
    IN.rename("out")
    assert write_report("out").read_text(encoding="utf-8").endswith("</html>\n")


def _few(row: dict) -> st.SearchStrategy:
    return st.tuples(st.lists(changed(row), max_size=3), DAMAGE)


PROPERTIES = {
    "data files": Property(strategies.data_files(), _data, 400),
    "text files": Property(strategies.TEXT_FILES, _text, 150),
    "fields": Property(st.tuples(st.sampled_from(FIELDS), VALUES | st.integers(0, 99) | st.floats(0, 1) | st.lists(
        strategies.SCALARS, max_size=3).map(tuple)), _field, 300),
    "config files": Property(st.tuples(changed({}, ("name", "tasks", "seeds", "arms", "data", "devices", "other")),
                                       DAMAGE), _config_file, 150),
    "overrides": Property(st.tuples(st.sampled_from(FIELDS), strategies.ODD_TEXT.filter(str.strip)), _override, 25),
    "results.jsonl": Property(_few(ROW), _rows, 150),
    "synthetic.jsonl": Property(_few(SET), _sets, 100),
    "samples": Property(st.tuples(st.lists(changed(SAMPLE), max_size=3), changed(COUNT), DAMAGE), _samples, 150),
    "prompts": Property(strategies.prompt_files(), _prompt, 150),
    "checkpoints": Property(_checkpoints(), _load, 120),
    "artefacts": Property(_artefact(), _artefacts, 200),
    "report": Property(_artefact(), _report, 25),
    **own.PROPERTIES,
    **stored.PROPERTIES,
}
