"""Pre-train a backbone of the mini world: python -m train.pretrain CONFIG.py [--out DIR] [--workers N] [--FIELD VALUE]

DIR/backbone becomes a Hugging Face directory (float16 weights, tokenizer, card); DIR/checkpoint.safetensors and
DIR/metrics.jsonl let a killed run go on. Fields are those of PretrainConfig; those of its text are --corpus.FIELD.
"""

from __future__ import annotations

import argparse
import dataclasses
import os
import pathlib
import runpy
import shlex

from dawgen_jax.config import UserError


def _arguments(config, prefix: str = ""):
    """(dotted name, type, value) of every field that one word can set."""
    for field in dataclasses.fields(config):
        value = getattr(config, field.name)
        if dataclasses.is_dataclass(value):
            yield from _arguments(value, f"{prefix}{field.name}.")
        elif isinstance(value, (int, float, str)) and not isinstance(value, bool):
            yield prefix + field.name, type(value), value


def _replace(config, values: dict[str, object]):
    own = {name: value for name, value in values.items() if "." not in name}
    nested = {name.split(".")[0] for name in values if "." in name}
    for name in nested:
        inner = {key.partition(".")[2]: value for key, value in values.items() if key.startswith(name + ".")}
        own[name] = _replace(getattr(config, name), inner)
    return dataclasses.replace(config, **own)


def main(argv: list[str]) -> None:
    """Parses, trains, writes the backbone."""
    parser = argparse.ArgumentParser(prog="python -m train.pretrain", description=__doc__.splitlines()[0])
    parser.add_argument("config", help="Python file with get_config() -> PretrainConfig")
    parser.add_argument("--out", type=pathlib.Path, help="run directory (runs/NAME)")
    parser.add_argument("--workers", type=int, default=os.cpu_count(), help="processes that write text; 0 is none")
    parser.add_argument("--seed", type=int, help="short for --corpus.seed")
    path = next((word for word in argv if word.endswith(".py")), None)
    if path is None or not pathlib.Path(path).is_file():
        if not {"-h", "--help"} & set(argv):
            raise UserError(f"{path or 'no config file'}: give one first, for instance configs/pretrain_mini_t5.py.")
        parser.print_help()
        return
    config = runpy.run_path(path)["get_config"]()
    names = {}
    for name, kind, value in _arguments(config):
        names[name] = f"field {name}"
        parser.add_argument(f"--{name}", type=kind, dest=names[name], help=f"default {value!r}")
    args = vars(parser.parse_args(argv))
    values = {name: args[dest] for name, dest in names.items() if args[dest] is not None}
    if args["seed"] is not None:
        values["corpus.seed"] = args["seed"]
    config = _replace(config, values)
    out = args["out"] or pathlib.Path("runs") / config.name
    # Imported here and below: the processes that write text import this file too, and need no JAX.
    from dawgen_jax.miniworld import pretraining
    facts = pretraining.pretrain(config, out, args["workers"], log=lambda line: print(line, flush=True))
    if config.minutes:
        values |= {"minutes": 0.0, "documents": facts["documents"]}
    command = shlex.join([path, *(f"--{name}={value}" for name, value in values.items())])
    pretraining.save_backbone(out / "backbone", config, facts, command)
    print(f"wrote {out / 'backbone'}", flush=True)


if __name__ == "__main__":
    from train import cli

    cli.guard(main)
