"""The frozen language model, and how it is computed."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BeforeValidator, Field, NonNegativeInt

from dawgen_jax.config.validation import Line, is_printable, must, shown, validated
from dawgen_jax.errors import ConfigError

__all__ = ["NOT_FLOAT16", "BackboneConfig"]

NOT_FLOAT16 = BeforeValidator(must(
    "be 'float32' or 'bfloat16' (float16 overflows in T5's feed-forward layers; use it for storage only)",
    lambda dtype: dtype != "float16"))


@validated
class BackboneConfig:
    """A frozen language model: which checkpoint, and how it is computed."""

    path: Annotated[str, Field(min_length=1)] = "mini-t5"
    """A Hugging Face folder (config.json, safetensors, tokenizer), a .gguf file, hub:ORG/NAME, or the name of an
    embedded or fetched backbone."""
    name: Line = ""
    """The name in result rows; empty takes the last component of `path`. The published tables say 'T5-large' and
    'Flan-T5-large'."""
    dtype: Annotated[Literal["float32", "bfloat16"], NOT_FLOAT16] = "float32"
    """Compute dtype. float16 is a storage format only, because T5's feed-forward activations overflow in it."""
    scan_unroll: NonNegativeInt = 0
    """Layers unrolled per iteration of the scan over layers. 0 unrolls all of them (fast for small models); 1 compiles
    one layer (compiles quickly for large ones)."""
    remat: bool = False
    """Recompute layer activations in the backward pass: less memory, about a third more time."""

    def __post_init__(self):
        if len(self.label) > 100 or not is_printable(self.label):
            raise ConfigError(f"BackboneConfig.path = {shown(self.path)}: the folder's name must have at most 100 "
                              "printable characters; otherwise give a shorter one in `name`.")

    @property
    def label(self) -> str:
        """The name of this backbone in result rows."""
        return self.name or self.path.rstrip("/").rsplit("/", 1)[-1]
