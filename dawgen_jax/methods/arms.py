"""An arm: a method, and the generator of the synthetic data that it learns from."""

from __future__ import annotations

import dataclasses
import difflib
import re
from collections.abc import Iterable

from dawgen_jax.config import Config
from dawgen_jax.errors import ConfigError
from dawgen_jax.generator.variants import VARIANTS
from dawgen_jax.methods.base import Method
from dawgen_jax.methods.rows import METHODS

__all__ = ["GENERATORS", "RELEASED", "Arm", "arms_of"]

RELEASED = "FewGen released"
"""The generator whose sets are read from a folder instead of written: those that FewGen's authors released."""
GENERATORS = ("L_gen", "FewGen", RELEASED, *(name for name in VARIANTS if name not in ("L_gen", "FewGen")))
"""Who may write synthetic data, in the order of the tables."""


@dataclasses.dataclass(frozen=True)
class Arm:
    """One line of a results table.

    Written ``[GENERATOR: ]METHOD[ @full][ #VARIANT]`` on the command line and in config files.

    >>> arm = Arm.parse("DawGen: (Real, Syn) + GS")
    >>> arm.generator, arm.method.name, str(Arm.parse("Prompt Tuning #same-T"))
    ('DawGen', '(Real, Syn) + GS', 'Prompt Tuning #same-T')
    """

    method: Method
    generator: str = ""
    """Of :data:`GENERATORS`, or empty for a method without synthetic data."""

    @classmethod
    def parse(cls, text: str) -> Arm:
        """The arm that ``text`` names.

        Raises:
          ConfigError: it names no known method or generator, or the method wants a generator, or none.
        """
        generator, name = re.fullmatch(r"(?:([^:]+): *)?(.*)", text.strip(), re.DOTALL).groups(default="")
        name = re.sub(r"\s+", " ", name.strip())
        if name not in METHODS:
            near = difflib.get_close_matches(name, METHODS, 1, 0.0)[0]
            raise ConfigError(f"Config.arms: '{text}': no method '{name}'; the nearest is '{near}', and there are "
                              f"{'; '.join(METHODS)}.")
        needs = "synthetic" in METHODS[name].data
        if needs and generator not in GENERATORS:
            raise ConfigError(f"Config.arms: '{text}': '{name}' learns from synthetic data; put one of "
                              f"{', '.join(GENERATORS)} in front, as in 'DawGen: {name}'.")
        if generator and not needs:
            raise ConfigError(f"Config.arms: '{text}': '{name}' learns from no synthetic data; write it without "
                              f"'{generator}:'.")
        return cls(METHODS[name], generator)

    def __str__(self) -> str:
        return (f"{self.generator}: " if self.generator else "") + str(self.method)


def arms_of(config: Config, methods: Iterable[str] = ()) -> tuple[Arm, ...]:
    """The arms of a configuration, all of them or those of some methods.

    Args:
      config: its ``arms``.
      methods: names of methods or whole arms.

    Raises:
      ConfigError: an arm, or one of ``methods``, names nothing that is there.
    """
    arms, wanted = tuple(Arm.parse(text) for text in config.arms), set(methods)
    chosen = tuple(arm for arm in arms if not wanted or {str(arm), str(arm.method), arm.method.name} & wanted)
    known = {name for arm in arms for name in (str(arm), str(arm.method), arm.method.name)}
    for name in sorted(wanted - known):
        near = difflib.get_close_matches(name, known, 1, 0.0)[0]
        raise ConfigError(f"--methods '{name}': no arm of this configuration has it; the nearest is '{near}'.")
    return chosen
