"""Imports point down, and the few places where a rule of the house could be broken by one line.

The rooms, from top to bottom; a module imports its own tier or a lower one:

    train, tests, benchmarks -> cli -> api -> pipeline -> results -> methods, generator, evaluation
    -> miniworld, synthesis -> prompts, data -> training -> backbones, surgery, io -> tasks -> origins, config
    -> errors, prng
"""

import ast
import importlib.metadata
import itertools
import pathlib
import re
import sys
import tomllib

import pytest

ROOT = pathlib.Path(__file__).parents[1]
TIERS = (
    {"errors", "prng"},
    {"config", "origins"},
    {"tasks"},
    {"backbones", "surgery", "io"},
    {"training"},
    {"prompts", "data"},
    {"miniworld", "synthesis"},
    {"methods", "generator", "evaluation"},
    {"results"},
    {"pipeline"},
    {"api"},
    {"cli"},
)
TIER = {room: tier for tier, rooms in enumerate(TIERS) for room in rooms}
NEVER = {("surgery", "backbones"), ("data", "surgery"), ("data", "training"), ("backbones", "surgery"),
         ("io", "backbones")}
BACKBONES = pathlib.Path("dawgen_jax/backbones")
FAMILIES = {path.parent.name for path in (ROOT / BACKBONES).glob("*/__init__.py")}
NAMING = {BACKBONES / "registry.py", BACKBONES / "fetch.py"}
"""The modules outside of a family's folder that import it: what loads a checkpoint, and what converts a download."""
OF_FAMILIES = re.compile(r"extra_id|decoder_start|coder\.block|layer\.[0-9]\.|lm_head|shared\.weight|embed_tokens|"
                         r"self_attn|SEQ_2_SEQ|CAUSAL_LM|</?s>|<pad>|<\|")
"""Special tokens, decoder inputs, tensors and PEFT's names, which no string outside of a family's folder holds."""
WORD_MARKS = re.compile("[\u2581\u0120]")
"""What starts a word in a vocabulary: the business of backbones/tokens.py."""
KEYS = {pathlib.Path("dawgen_jax/prng.py"), pathlib.Path("dawgen_jax/surgery/aggregator.py")}
"""The modules that name the implementation of random keys; surgery imports nothing that could do it."""
NNX_TRANSFORMS = {"jit", "grad", "value_and_grad", "vmap", "scan", "remat", "Optimizer"}
FILES = sorted(path for folder in ("dawgen_jax", "train", "tools", "configs", "benchmarks")
               for path in (ROOT / folder).rglob("*.py"))


def imported(tree, package):
    """Dotted names that a module imports, relative ones resolved; 'a.b' of 'from a import b'."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = package[:len(package) - node.level + 1] if node.level else []
            yield from (".".join([*base, *filter(None, [node.module]), alias.name]) for alias in node.names)


def dotted(node):
    """'a.b.c' of an attribute expression."""
    if isinstance(node, ast.Attribute):
        return f"{dotted(node.value)}.{node.attr}"
    return node.id if isinstance(node, ast.Name) else ""


def names(source, path):
    """Every dotted name of a module: imports, and attributes of names."""
    tree = ast.parse(source)
    package = list(path.with_suffix("").parts[:-1])
    return set(imported(tree, package)), {dotted(node) for node in ast.walk(tree) if isinstance(node, ast.Attribute)}


def strings(source):
    """Every string constant of a module, docstrings and parts of f-strings included."""
    return [node.value for node in ast.walk(ast.parse(source))
            if isinstance(node, ast.Constant) and isinstance(node.value, str)]


def room_of(path):
    """'data' of dawgen_jax/data/pools.py, 'config' of dawgen_jax/config/run.py, '' elsewhere."""
    parts = path.with_suffix("").parts
    return parts[1] if parts[0] == "dawgen_jax" and parts[1] != "__init__" else ""


def faults(source, path):
    """The rules that a module at ``path`` (relative to the root) breaks."""
    imports, attributes = names(source, path)
    room, found = room_of(path), []
    for name in sorted(imports):
        top, *rest = name.split(".")
        if top in ("train", "tools", "tests", "benchmarks", "configs") and room:
            found.append(f"{path} imports {name}: the library never imports programs")
        if top == "dawgen_jax" and room and rest and rest[0] in TIER:
            if room not in TIER:
                found.append(f"{path} is in no tier: place '{room}' in TIERS")
            elif TIER[rest[0]] > TIER[room] or (room, rest[0]) in NEVER:
                found.append(f"{path} imports {name}: imports point down only")
    if any(name.startswith("flax.nnx") for name in imports | attributes) and room != "backbones":
        found.append(f"{path} imports flax.nnx: only dawgen_jax/backbones does")
    own = path.parts[2] if path.is_relative_to(BACKBONES) else ""
    if path.parts[0] in ("dawgen_jax", "train") and path not in NAMING:
        found += [f"{path} imports {name}: the seam is dawgen_jax.backbones.base" for name in sorted(imports)
                  if name.startswith("dawgen_jax.backbones.") and name.split(".")[2] in FAMILIES - {own}]
    if path.parts[0] == "dawgen_jax" and own not in FAMILIES:
        found += [f"{path} names {text[:60]!r} of a family: that is its Format's or its Model's business"
                  for text in strings(source) if OF_FAMILIES.search(text)]
        found += [f"{path} names a word mark: see dawgen_jax/backbones/tokens.py"
                  for text in strings(source) if WORD_MARKS.search(text) and path != BACKBONES / "tokens.py"]
    found += [f"{path} uses {name}: plain JAX transforms only" for name in sorted(imports | attributes)
              if name.split(".")[-2:-1] == ["nnx"] and name.split(".")[-1] in NNX_TRANSFORMS]
    if path.parts[0] != "benchmarks" and path not in KEYS and {"jax.random.key", "jax.random.PRNGKey"} & (
            imports | attributes):
        found.append(f"{path} makes a random key of JAX's default kind: use dawgen_jax.prng.key")
    if path.name == "utils.py":
        found.append(f"{path}: a module is named after what it does")
    return found


def uses_optax_experimental(source, path):
    return any(name.startswith("optax.experimental") for name in set.union(*names(source, path)))


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(ROOT)))
def test_layers(path):
    assert not faults(path.read_text(encoding="utf-8"), path.relative_to(ROOT))


def test_optax_experimental_is_imported_in_one_file_only():
    users = [path.relative_to(ROOT) for path in FILES
             if uses_optax_experimental(path.read_text(encoding="utf-8"), path.relative_to(ROOT))]
    assert len(users) <= 1, users


def test_what_is_imported_is_declared_and_what_is_declared_imported():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    needed, extra = ({re.match(r"[\w-]+", line)[0].lower().replace("_", "-") for line in lines} for lines in (
        project["dependencies"], itertools.chain(*project["optional-dependencies"].values())))
    homes = {name: {home.lower().replace("_", "-") for home in found}
             for name, found in importlib.metadata.packages_distributions().items()}
    known, used = sys.stdlib_module_names | {"dawgen_jax", "train", "tools", "configs"}, set()
    for path in FILES:
        if path.is_relative_to(ROOT / "benchmarks"):
            continue
        tree = ast.parse(path.read_text(encoding="utf-8"))
        outer = ast.Module([part for part in tree.body if not isinstance(part, ast.FunctionDef | ast.ClassDef)], [])
        for part, declared in ((outer, needed), (tree, needed | extra)):  # what a function imports may be an extra
            for name in {name.split(".")[0] for name in imported(part, path.relative_to(ROOT).parts[:-1])} - known:
                assert homes[name] & declared, f"{path.relative_to(ROOT)} imports {name}, which pyproject.toml lacks"
                used |= homes[name]
    assert needed <= used | {"sentencepiece"}  # transformers reads spiece.model with it


def test_rooms_do_not_import_each_other_in_circles():
    below = {}
    for path in FILES:
        room = room_of(path.relative_to(ROOT))
        imports, _ = names(path.read_text(encoding="utf-8"), path.relative_to(ROOT))
        below.setdefault(room, set()).update(
            name.split(".")[1] for name in imports if name.startswith("dawgen_jax.") and name.split(".")[1] in TIER)
    while below:
        free = [room for room, others in below.items() if not (others - {room}) & below.keys()]
        assert free, f"a circle among {sorted(below)}"
        for room in free:
            del below[room]


@pytest.mark.parametrize(("path", "source", "fault"), [
    ("dawgen_jax/backbones/t5/model.py", "from dawgen_jax.data.pools import Example", "point down"),
    ("dawgen_jax/backbones/base.py", "from .. import data", "point down"),
    ("dawgen_jax/backbones/t5/model.py", "def f():\n    import dawgen_jax.results.rows", "point down"),
    ("dawgen_jax/data/pools.py", "from dawgen_jax import methods", "point down"),
    ("dawgen_jax/surgery/gramian.py", "from dawgen_jax.data.batches import x", "point down"),
    ("dawgen_jax/surgery/gramian.py", "from dawgen_jax.backbones.base import Model", "point down"),
    ("dawgen_jax/config/run.py", "from dawgen_jax.training.optimisers import x", "point down"),
    ("dawgen_jax/training/fit.py", "from train import cli", "never imports programs"),
    ("dawgen_jax/attic/x.py", "from dawgen_jax.config import Config", "in no tier"),
    ("dawgen_jax/training/fit.py", "from flax import nnx", "flax.nnx"),
    ("dawgen_jax/generator/step.py", "from dawgen_jax.backbones.t5 import model", "the seam is"),
    ("train/compile.py", "def f():\n    from dawgen_jax.backbones.t5.config import T5Config", "the seam is"),
    ("dawgen_jax/backbones/engine.py", "from dawgen_jax.backbones import t5", "the seam is"),
    ("dawgen_jax/pipeline/adapters.py", "mask = f'<extra_id_{n}>'", "of a family"),
    ("dawgen_jax/io/prompt_files.py", "config = {'task_type': 'SEQ_2_SEQ_LM'}", "of a family"),
    ("dawgen_jax/pipeline/plan.py", "name = 'encoder.block.0.layer.1.DenseReluDense.wi.weight'", "of a family"),
    ("dawgen_jax/backbones/engine.py", "start = config['decoder_start_token_id']", "of a family"),
    ("dawgen_jax/results/report/tuning.py", "token.removeprefix('\u2581')", "word mark"),
    ("dawgen_jax/backbones/templates.py", "token.startswith('\u0120')", "word mark"),
    ("train/run.py", "import flax\nflax.nnx.Module", "flax.nnx"),
    ("dawgen_jax/backbones/t5/modules.py", "from flax import nnx\nnnx.jit(f)", "plain JAX"),
    ("dawgen_jax/pipeline/sets.py", "import jax\nkeys = jax.vmap(jax.random.key)(seeds)", "default kind"),
    ("dawgen_jax/pipeline/sets.py", "from jax.random import PRNGKey", "default kind"),
    ("dawgen_jax/io/utils.py", "", "named after what it does"),
])
def test_a_fault_is_found(path, source, fault):
    assert any(fault in found for found in faults(source, pathlib.Path(path)))


@pytest.mark.parametrize(("path", "source"), [
    ("dawgen_jax/backbones/t5/modules.py", "from flax import nnx\nnnx.split(m)\nfrom dawgen_jax.config import Config"),
    ("dawgen_jax/results/rows.py", "from dawgen_jax.io.lines import json_lines"),
    ("train/run.py", "from dawgen_jax.pipeline import main"),
])
def test_what_is_allowed_passes(path, source):
    assert faults(source, pathlib.Path(path)) == []
    assert uses_optax_experimental("import optax.experimental.aggregating", pathlib.Path(path))
    assert uses_optax_experimental("import optax\noptax.experimental.x", pathlib.Path(path))
