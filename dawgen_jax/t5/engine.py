"""Continuous batching: a stream of work through a fixed number of slots, on one device or a mesh.

Work waits in one queue a source width. A slot whose sample has ended is filled with waiting work while the others go
on, in programs of fixed shapes that are compiled once. The shapes that a sample meets depend on its own length only
and its randomness on (key, label, index) only, so neither the order of the work nor its neighbours change its text.
Memory is that of the slots and of a bounded look-ahead, whatever the number of samples.
"""

from __future__ import annotations

import collections
import functools
import itertools
from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple

import jax
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from dawgen_jax.config import ConfigError, UserError
from dawgen_jax.t5 import decode
from dawgen_jax.t5.config import T5Config
from dawgen_jax.t5.decode import EmbedFn, Rows
from dawgen_jax.t5.sampling import Sampling

__all__ = ["Decoder", "Sample", "Work"]


class Work(NamedTuple):
    """One sample to be generated.

    Attributes:
      label: chooses the prompt and, with ``index``, the random key.
      index: number of the sample within its label.
      source: int [T] encoder tokens. Those that are text are penalised from the start.
      slots: int [T] the soft row that stands at each position, -1 for text; None for text only.
      sampling: settings.
    """

    label: int
    index: int
    source: np.ndarray
    slots: np.ndarray | None = None
    sampling: Sampling = Sampling()


class Sample(NamedTuple):
    """What was generated for ``Work``.

    Attributes:
      label: of the work.
      index: of the work.
      tokens: int32 [U] without the end of sequence.
      finished: whether it ended with the end of sequence (and not at its budget).
    """

    label: int
    index: int
    tokens: np.ndarray
    finished: bool


class Decoder:
    """Compiled decoding of one model under fixed shapes; used for any number of parameters, prompts and streams.

    Attributes:
      traces: how often each program was traced, by (program, source width).
      cut: how many sources were longer than the largest width and lost text from their end.
    """

    def __init__(
        self,
        config: T5Config,
        embed_fn: EmbedFn,
        *,
        slots: int = 64,
        widths: Sequence[int] = (128,),
        max_new_tokens: int = 50,
        refill: int = 0,
        banned: Iterable[int] = (),
        exempt: Iterable[int] = (),
        penalty: bool = True,
        mesh: Mesh | None = None,
    ):
        """
        Args:
          config: the model.
          embed_fn: (theta, prompts, rows) -> (embeddings, mask); see :data:`dawgen_jax.t5.decode.EmbedFn`.
          slots: samples decoded together (rounded up to a multiple of the mesh).
          widths: source lengths that programs are compiled for, soft rows of the text included; a sample uses the
            smallest that holds it.
          max_new_tokens: the largest budget of a sample.
          refill: free slots that are waited for before they are filled; 0 is an eighth of the slots.
          banned: tokens that are never chosen (sentinels, rows without a token); padding is always among them.
          exempt: tokens that are never penalised beside padding and end of sequence.
          penalty: False drops the repetition penalty and its state; a sample that asks for one is then refused.
          mesh: slots are spread over its axis 'data'.

        Raises:
          ConfigError: a number out of range, or no token left to choose.
        """
        for name, value in (("slots", slots), ("max_new_tokens", max_new_tokens), ("widths", min(widths, default=0))):
            if value < 1:
                raise ConfigError(f"{name} = {value}: must be 1 or more to generate anything.")
        devices = 1 if mesh is None else mesh.shape["data"]
        self.config, self.widths = config, tuple(sorted(set(widths)))
        self.slots = -(-slots // devices) * devices
        self.refill = min(-(-(refill or max(1, slots // 8)) // devices) * devices, self.slots)
        self.max_new_tokens, self.penalty, self.lookahead = max_new_tokens, penalty, 8 * self.slots
        self.traces: collections.Counter = collections.Counter()
        self.cut = 0
        self.banned = np.zeros(config.vocab_size, bool)
        self.banned[[config.pad_id, *banned]] = True
        if np.delete(self.banned, config.eos_id).all():
            raise ConfigError("banned: covers the whole vocabulary but the end of sequence; leave a token to choose.")
        self.exempt = np.zeros(config.vocab_size, bool)
        self.exempt[[config.pad_id, config.eos_id, *exempt]] = True
        self.embed_fn = embed_fn
        bound = {"config": config, "embed_fn": embed_fn}
        self._prepare = self._compile(mesh, functools.partial(decode.prepare, config=config), (False,), False)
        self.empty_slots = self._compile(
            mesh,
            functools.partial(
                decode.empty, config=config, slots=self.slots, new_tokens=max_new_tokens, penalty=penalty
            ),
            (),
            True,
            static_argnums=0,
        )
        self.fill_slots = self._compile(
            mesh,
            functools.partial(decode.fill, **bound),
            (True, *[False] * 3, True, *[False] * 4),
            True,
            donate_argnums=0,
        )
        self.run_slots = self._compile(
            mesh,
            functools.partial(decode.advance, banned=self.banned, exempt=self.exempt, config=config),
            (True, False, False),
            True,
            donate_argnums=0,
        )
        self._score = self._compile(mesh, functools.partial(decode.score, **bound), (False, False, *[True] * 3), True)

    def _compile(
        self, mesh: Mesh | None, function: functools.partial, split: tuple[bool, ...], result: bool, **options
    ):
        """``function``, jitted and its traces counted; ``split`` says which arguments are spread over the mesh."""

        def counted(*arguments):
            self.traces[function.func.__name__] += 1
            return function(*arguments)

        if mesh is None:
            return jax.jit(counted, **options)
        place = {True: NamedSharding(mesh, PartitionSpec("data")), False: NamedSharding(mesh, PartitionSpec())}
        shardings = {"in_shardings": tuple(place[s] for s in split)} if split else {}
        return jax.jit(counted, out_shardings=place[result], **shardings, **options)

    def generate(self, theta, prompts, work: Iterable[Work], key: jax.Array) -> Iterator[Sample]:
        """Decode a stream of work; samples come as they end, not in the order of the work.

        Args:
          theta: the backbone's parameters.
          prompts: handed to ``embed_fn``.
          work: read as slots become free, a bounded number ahead.
          key: random key; a sample draws from fold_in(fold_in(key, label), index) and its position.

        Raises:
          UserError: a sample's settings are out of range, or the backbone's logits are not finite.
        """
        work = iter(work)
        prepared = self._prepare(theta)
        queues: dict[int, collections.deque[Work]] = {width: collections.deque() for width in self.widths}
        pools: dict[int, _Pool] = {}
        while True:
            room = self.lookahead - sum(map(len, queues.values()))
            fresh = [self._checked(item) for item in itertools.islice(work, room)]
            for item in fresh:
                queues[self._width(len(item.source))].append(item)
            if fresh:
                # The longest budgets start first, so that the last slots end together.
                for width, queue in queues.items():
                    queues[width] = collections.deque(sorted(queue, key=lambda item: -item.sampling.max_new_tokens))
            busy = [width for width in self.widths if queues[width] or (width in pools and pools[width].occupied)]
            if not busy:
                return
            width = max(busy, key=lambda width: len(queues[width]))
            if width not in pools:
                pools[width] = _Pool(self, theta, prepared, prompts, key, width)
            yield from pools[width].run(queues[width])

    def score(self, theta, prompts, pairs: Iterable[tuple[Work, Sample]], labels: int) -> Iterator[np.ndarray]:
        """Log-probabilities of samples under every label's prompt, by one teacher-forced pass.

        Args:
          theta: the backbone's parameters.
          prompts: handed to ``embed_fn``.
          pairs: work and what came of it; scored in order.
          labels: number L of labels.

        Yields:
          For each pair float32 [L, U'], over the sample's tokens and, where it finished, its end of sequence.
        """
        pairs = iter(pairs)
        count = max(1, self.slots // labels)
        while chunk := list(itertools.islice(pairs, count)):
            sources = [self._checked(work) for work, _ in chunk]
            width = self._width(max(len(work.source) for work in sources))
            # Short chunks are filled up with copies, to keep the shapes.
            padded = [sources[i % len(sources)] for i in range(count)]
            rows = _rows([work._replace(label=label) for work in padded for label in range(labels)], width)
            targets = np.zeros((len(rows.label), self.max_new_tokens), np.int32)
            mask = np.zeros(targets.shape, bool)
            for i, (_, sample) in enumerate(chunk):
                text = np.append(sample.tokens, [self.config.eos_id] * sample.finished)
                targets[i * labels : (i + 1) * labels, : len(text)] = text
                mask[i * labels : (i + 1) * labels, : len(text)] = True
            values = np.asarray(self._score(theta, prompts, rows, targets, mask)).reshape(count, labels, -1)
            for i in range(len(chunk)):
                yield values[i, :, : mask[i * labels].sum()]

    def _width(self, length: int) -> int:
        return next(width for width in self.widths if width >= length)

    def _checked(self, work: Work) -> Work:
        """``work`` with a source that fits; its text is cut at its end, before soft rows and the last token."""
        sampling, name = work.sampling, f"sample {work.index} of label {work.label}"
        for field, ok, want in (
            ("max_new_tokens", 1 <= sampling.max_new_tokens <= self.max_new_tokens, f"1 to {self.max_new_tokens}"),
            ("min_new_tokens", sampling.min_new_tokens >= 0, "0 or more"),
            ("temperature", 0 <= sampling.temperature < np.inf, "0 (greedy) or more"),
            ("top_k", sampling.top_k >= 0, "0 (off) or more"),
            ("top_p", 0 < sampling.top_p <= 1, "greater than 0 and at most 1"),
            ("repetition_penalty", 0 < sampling.repetition_penalty < np.inf, "greater than 0"),
            (
                "repetition_penalty",
                self.penalty or sampling.repetition_penalty == 1,
                "1: this decoder has penalty=False",
            ),
        ):
            if not ok:
                raise UserError(f"{name}: {field} = {getattr(sampling, field)}: must be {want}.")
        source = np.asarray(work.source, np.int32)
        slots = np.full(len(source), -1, np.int32) if work.slots is None else np.asarray(work.slots, np.int32)
        if not len(source):
            raise UserError(f"{name}: its source is empty; give at least the end of sequence.")
        if len(source) > self.widths[-1]:
            soft = np.flatnonzero(slots >= 0)
            tail = len(source) - (soft[0] if len(soft) else len(source) - 1)
            if tail > self.widths[-1]:
                raise UserError(
                    f"{name}: {tail} soft rows and end of sequence do not fit into a source of "
                    f"{self.widths[-1]}; raise the source budget."
                )
            keep = np.r_[: self.widths[-1] - tail, len(source) - tail : len(source)]
            source, slots = source[keep], slots[keep]
            self.cut += 1
        return work._replace(source=source, slots=slots)


def _rows(work: Sequence[Work], width: int) -> Rows:
    source, slots = np.zeros((len(work), width), np.int32), np.full((len(work), width), -1, np.int32)
    mask = np.zeros((len(work), width), bool)
    for i, item in enumerate(work):
        length = len(item.source)
        source[i, :length], slots[i, :length], mask[i, :length] = item.source, item.slots, True
    return Rows(source, mask, slots, np.asarray([item.label for item in work], np.int32))


class _Pool:
    """The slots of one source width and who is in them."""

    def __init__(self, decoder: Decoder, theta, prepared, prompts, key: jax.Array, width: int):
        self.decoder, self.theta, self.prepared, self.prompts, self.key = decoder, theta, prepared, prompts, key
        self.occupants: list[Work | None] = [None] * decoder.slots
        rows = _rows([_FILLER] * decoder.refill, width)
        source = jax.eval_shape(decoder.embed_fn, theta, prompts, rows)[1].shape[1]
        self.state = decoder.empty_slots(source)
        self.width = width

    @property
    def occupied(self) -> bool:
        return any(occupant is not None for occupant in self.occupants)

    def run(self, queue: collections.deque[Work]) -> Iterator[Sample]:
        """Fill free slots from ``queue``, decode until enough are free again, and hand out what has ended."""
        decoder = self.decoder
        free = [slot for slot, occupant in enumerate(self.occupants) if occupant is None]
        while free and queue:
            count = min(decoder.refill, len(free), len(queue))
            self._fill([queue.popleft() for _ in range(count)], free[:count])
            free = free[count:]
        wanted = decoder.refill if queue else decoder.slots
        self.state = decoder.run_slots(self.state, self.prepared, np.int32(wanted))
        active, finished, healthy, position, tokens = jax.device_get(
            (self.state.active, self.state.finished, self.state.healthy, self.state.position, self.state.tokens)
        )
        for slot, work in enumerate(self.occupants):
            if work is None or active[slot]:
                continue
            if not healthy[slot]:
                raise UserError(
                    f"sample {work.index} of label {work.label}: the backbone's logits are not finite; check its "
                    "weights and the soft prompts (train.check_backbone)."
                )
            self.occupants[slot] = None
            length = position[slot] - finished[slot]
            yield Sample(work.label, work.index, tokens[slot, :length].copy(), bool(finished[slot]))

    def _fill(self, work: list[Work], slots: list[int]) -> None:
        decoder = self.decoder
        for slot, item in zip(slots, work, strict=True):
            self.occupants[slot] = item
        spare = decoder.refill - len(work)
        work = [*work, *[_FILLER] * spare]
        where = np.asarray([*slots, *[decoder.slots] * spare], np.int32)
        penalised = np.full((decoder.refill, self.width), decoder.config.vocab_size, np.int32)
        for i, item in enumerate(work):
            text = item.source[item.slots < 0]
            text = text[~decoder.exempt[text]]
            penalised[i, : len(text)] = text
        sampling = Sampling(*(np.asarray(column) for column in zip(*(item.sampling for item in work), strict=True)))
        sampling = jax.tree.map(lambda new, old: new.astype(old.dtype), sampling, self.state.sampling)
        keys = _keys(self.key, np.asarray([item.label for item in work]), np.asarray([item.index for item in work]))
        self.state = decoder.fill_slots(
            self.state,
            self.theta,
            self.prepared,
            self.prompts,
            _rows(work, self.width),
            where,
            keys,
            sampling,
            penalised,
        )


_FILLER = Work(0, 0, np.zeros(1, np.int32), np.full(1, -1, np.int32))


@jax.jit
def _keys(key, labels, indices):
    return jax.vmap(lambda label, index: jax.random.fold_in(jax.random.fold_in(key, label), index))(labels, indices)
