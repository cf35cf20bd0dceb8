"""What the report reads of artefacts, each file checked as a whole: whoever shows it need not look again."""

from __future__ import annotations

from pathlib import Path

from dawgen_jax.config import shown
from dawgen_jax.errors import UserError
from dawgen_jax.io.files import read_json
from dawgen_jax.io.strict_json import is_number

__all__ = ["read_mistakes", "read_timings", "read_token_weights", "read_writer"]

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


def read_mistakes(path: Path) -> dict | None:
    """The labels, confusion matrix and examples of a wrong_examples.json; None where there is none.

    Raises:
      UserError: the file is broken, or holds something else.
    """
    found = read_json(path, missing_ok=True)
    if found is None:
        return None
    labels, counts, examples = (found.get(name) for name in ("labels", "confusion", "examples"))
    if not (_all(labels, str) and _all(counts, list) and len(counts) == len(labels) and _all(examples, dict)
            and all(len(row) == len(labels) and all(type(count) is int and 0 <= count < 2**53 for count in row)
                    for row in counts)
            and all(_all([*example.values()], str) for example in examples)):
        raise UserError(f"{path}: must hold labels, their confusion matrix and examples; {_AGAIN}.")
    return found


def _all(values: object, kind: type) -> bool:
    return isinstance(values, list) and all(isinstance(value, kind) for value in values)


def read_writer(path: Path) -> str:
    """The artefact of the generator that wrote a set, as its meta.json names it; empty where it names none.

    Raises:
      UserError: the file is broken, or names something else.
    """
    name = (read_json(path, missing_ok=True) or {}).get("generator_artefact", "")
    if not isinstance(name, str):
        raise UserError(f"{path}: 'generator_artefact' is {shown(name)}, not a name; {_AGAIN}.")
    return name
