"""What every stage is given: the resolved configuration, the run directory and the mesh."""

from __future__ import annotations

import collections
import contextlib
import dataclasses
import pathlib
import time
from collections.abc import Iterator

from jax.sharding import Mesh

from dawgen_jax import sharding
from dawgen_jax.config import Config, UserError
from dawgen_jax.stages.store import write_json

__all__ = ["Job"]


@dataclasses.dataclass(frozen=True)
class Job:
    """A run: configuration, directory, devices, and the seconds that each stage took in this process."""

    config: Config
    root: pathlib.Path
    mesh: Mesh
    seconds: collections.Counter

    @classmethod
    def start(cls, config: Config, root: pathlib.Path) -> Job:
        """Make the run directory and write the resolved configuration into it.

        Raises:
          UserError: ``root`` cannot be made or written to.
        """
        try:
            root.mkdir(parents=True, exist_ok=True)
            write_json(root / "config.json", dataclasses.asdict(config))
        except OSError as error:
            raise UserError(f"--out {root}: cannot be used as a run directory ({error.strerror}); name another "
                            "one.") from None
        return cls(config, root, sharding.data_mesh(config.devices), collections.Counter())

    @contextlib.contextmanager
    def stage(self, name: str) -> Iterator[None]:
        """Count the time spent inside as the stage ``name``."""
        begin = time.monotonic()
        try:
            yield
        finally:
            self.seconds[name] += time.monotonic() - begin
