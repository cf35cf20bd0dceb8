"""What every stage is given: the resolved configuration, the run directory, the devices and the loaded backbones."""

from __future__ import annotations

import collections
import contextlib
import dataclasses
import logging
import pathlib
import time
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from dawgen_jax.backbones.base import Backbone
from dawgen_jax.config import BackboneConfig, Config
from dawgen_jax.errors import UserError
from dawgen_jax.io import world
from dawgen_jax.io.files import write_json
from dawgen_jax.io.metrics_log import MetricsLog
from dawgen_jax.io.trackers import TrackedRun, Trackers
from dawgen_jax.pipeline.inputs import load_backbone, resolved
from dawgen_jax.training.placement import Placement

__all__ = ["Job"]

log = logging.getLogger(__name__)


@dataclasses.dataclass(frozen=True)
class Job:
    """A run: configuration, directory, devices, the seconds that each stage took in this process, and trackers."""

    config: Config
    root: pathlib.Path
    placement: Placement
    seconds: collections.Counter
    trackers: Trackers
    _backbones: dict[BackboneConfig, Backbone] = dataclasses.field(default_factory=dict)

    @classmethod
    def start(cls, config: Config, root: pathlib.Path) -> Job:
        """Make the run directory and write the resolved configuration into it.

        Raises:
          UserError: the classifier's backbone cannot be found, ``root`` cannot be made or written to, or a tracker is
            not installed.
        """
        config = dataclasses.replace(config, classifier=resolved(config.classifier))
        trackers = Trackers(config.track, root)

        def write() -> None:
            try:
                root.mkdir(parents=True, exist_ok=True)
                write_json(root / "config.json", dataclasses.asdict(config))
            except OSError as error:
                raise UserError(f"--out {root}: cannot be used as a run directory ({error.strerror}); name another "
                                "one.") from None

        world.led(write)
        return cls(config, root, Placement.on(config.devices, config.mesh), collections.Counter(), trackers)

    def backbone(self, config: BackboneConfig) -> Backbone:
        """The backbone of a configuration, loaded and placed once."""
        if config not in self._backbones:
            self._backbones[config] = load_backbone(config, self.placement)
        return self._backbones[config]

    def metrics_log(self, folder: pathlib.Path, settings: Mapping[str, Any], seeds: Sequence[int] = ()) -> MetricsLog:
        """The log of what is trained with its unfinished work in ``folder``; the process that writes shows it as well.

        Args:
          folder: for unfinished work, of :func:`dawgen_jax.io.store.build`; its name is the run's.
          settings: shown with it.
          seeds: that are trained together.
        """
        name = f"{folder.parent.name}/{folder.name.removeprefix('.').removesuffix('.partial')}"
        tracked = self.config.track and self.placement.writes
        shown = TrackedRun(self.trackers, name, settings, seeds) if tracked else None
        return MetricsLog(folder / "metrics.jsonl", shown)

    @contextlib.contextmanager
    def stage(self, name: str) -> Iterator[None]:
        """Count the time spent inside as the stage ``name``, and say when it is done."""
        begin = time.monotonic()
        try:
            yield
            log.info("%s: done in %.0f s", name, time.monotonic() - begin)
        finally:
            self.seconds[name] += time.monotonic() - begin
