"""A whole run: tasks x seeds x arms, and the configs of all stages."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import AfterValidator, Field, NonNegativeInt, PositiveInt

from dawgen_jax.config.classifier import ClassifierConfig
from dawgen_jax.config.data import DataConfig, OwnTask
from dawgen_jax.config.generator import GeneratorConfig
from dawgen_jax.config.synthesis import SynthesisConfig
from dawgen_jax.config.transfer import TransferConfig
from dawgen_jax.config.validation import DISTINCT, Items, Line, Printable, Seed, must, shown, validated
from dawgen_jax.errors import ConfigError

__all__ = ["Config", "MeshConfig"]


@validated
class MeshConfig:
    """How the devices are arranged: devices left over by both axes hold copies, each with its part of the batch."""

    fsdp: PositiveInt = 1
    """Devices over which the backbone's parameters are sharded (and their optimiser state if they are trained); layers
    are gathered one by one, and the batch is split over these devices too. A power of two divides most widths."""
    tensor: PositiveInt = 1
    """Devices over which attention heads, feed-forward width and vocabulary are sharded and computed."""


@validated
class Config:
    """A run: tasks x seeds x arms."""

    name: Annotated[Line, AfterValidator(must(
        "be the name of a folder in runs/ (choose another place with --out)",
        lambda name: "/" not in name and name not in (".", "..")))] = ""
    """Names the run directory (runs/NAME) unless --out is given; empty takes the config file's name."""
    tasks: Annotated[Items[Printable], Field(min_length=1), DISTINCT] = ("mini-snli",)
    """Names of tasks: QQP MRPC MNLI SNLI QNLI RTE SICK, those of the mini world (mini-qqp, mini-mrpc, ...), or the name
    of `own`."""
    own: OwnTask = OwnTask()
    """A task of your own."""
    seeds: Annotated[Items[Seed], Field(min_length=1), DISTINCT] = (13, 21, 42, 87, 100)
    """Each has its own few-shot split, generator and prompt."""
    arms: Annotated[Items[Printable], Field(min_length=1), DISTINCT] = ("Prompt Tuning", "DawGen: (Real, Syn) + GS")
    """'[GENERATOR: ]METHOD[ @full][ #VARIANT]', for instance 'DawGen: (Real, Syn) + GS'."""
    data: DataConfig = DataConfig()
    """Where examples and first sentences come from."""
    generator: GeneratorConfig = GeneratorConfig()
    """Tuning of the generator."""
    synthesis: SynthesisConfig = SynthesisConfig()
    """Generation of the labelled set."""
    classifier: ClassifierConfig = ClassifierConfig()
    """Tuning of the classifier's prompt."""
    transfer: TransferConfig = TransferConfig()
    """Prompts that are trained on other data first."""
    devices: NonNegativeInt = 0
    """Devices of the mesh; 0 takes all."""
    mesh: MeshConfig = MeshConfig()
    """How they are arranged."""
    track: Annotated[Items[Literal["tensorboard", "wandb", "trackio"]], DISTINCT] = ()
    """Trackers that receive metrics while they are recorded, in addition to metrics.jsonl; each is an optional
    dependency of this package."""

    def __post_init__(self):
        if self.own.data and self.own.name not in self.tasks:
            raise ConfigError(f"own.data = {shown(self.own.data)}: no task of this configuration reads it (Config.tasks"
                              f" is {', '.join(self.tasks)}); start from configs/own_task.py, or add "
                              f"{shown(self.own.name)} to Config.tasks.")
