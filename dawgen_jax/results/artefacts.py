"""What the report reads of artefacts, each file checked as a whole: whoever shows it need not look again."""

from __future__ import annotations

import itertools
from pathlib import Path

from dawgen_jax.config import UserError, shown
from dawgen_jax.io.files import read_json
from dawgen_jax.io.lines import json_lines
from dawgen_jax.io.strict_json import is_number

__all__ = ["read_samples", "read_timings", "read_token_weights", "read_writer"]

_AGAIN = "remove its folder, and its stage runs again"


def read_timings(path: Path) -> dict[str, float]:
    """Seconds by stage of a timings.json; empty where there is none.

    Raises:
      UserError: the file is broken, or holds something else.
    """
    seconds = read_json(path, missing_ok=True) or {}
    for stage, value in seconds.items():
        if not is_number(value) or value < 0:
            raise UserError(f"{path}: '{stage}' is {shown(value)}, not a number of seconds; remove the file.")
    return seconds


def read_token_weights(path: Path) -> list[dict]:
    """The sentences of a token_weights.json, with their label, tokens and weights; empty where there is none.

    Raises:
      UserError: the file is broken, or holds something else.
    """
    examples = read_json(path, list, missing_ok=True) or []
    for number, example in enumerate(examples):
        fields = example if isinstance(example, dict) else {}
        tokens, weights = fields.get("tokens"), fields.get("weights")
        texts = [fields.get("sentence1"), fields.get("label"), *(tokens if isinstance(tokens, list) else [None])]
        if not (all(isinstance(text, str) for text in texts) and isinstance(weights, list)
                and len(weights) == len(tokens) and all(map(is_number, weights))):
            raise UserError(f"{path}[{number}]: no sentence with 'sentence1', 'label', 'tokens' and as many 'weights'; "
                            f"{_AGAIN}.")
    return examples


def read_samples(path: Path, most: int) -> list[tuple[str, ...]]:
    """(label, sentence 1, sentence 2) or (label, text) of the first ``most`` samples; empty where there is no set.

    Raises:
      UserError: a line is broken, or holds something else.
    """
    if not path.exists():
        return []
    samples: list[tuple[str, ...]] = []
    for number, row in itertools.islice(json_lines(path), most):
        fields = ("label", "text") if "text" in row else ("label", "sentence1", "sentence2")
        sample = tuple(row.get(field) for field in fields)
        if not all(isinstance(text, str) for text in sample) or len(sample) != len(samples[0] if samples else sample):
            raise UserError(f"{path}:{number}: no sample with texts sentence1, sentence2 and label, or text and label; "
                            f"{_AGAIN}.")
        samples.append(sample)
    return samples


def read_writer(path: Path) -> str:
    """The artefact of the generator that wrote a set, as its meta.json names it; empty where it names none.

    Raises:
      UserError: the file is broken, or names something else.
    """
    name = (read_json(path, missing_ok=True) or {}).get("generator_artefact", "")
    if not isinstance(name, str):
        raise UserError(f"{path}: 'generator_artefact' is {shown(name)}, not a name; {_AGAIN}.")
    return name
