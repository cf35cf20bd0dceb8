"""Continuous batching: a stream of work through a fixed number of slots, on one device or a mesh.

Work waits in one queue a source width, is encoded in groups of one width, and takes slots one by one as these become
free, while the others go on. Every program has a fixed shape and is compiled once. The shapes that a sample meets
depend on its own length only and its randomness on (key, label, index) only, so that neither the order of the work nor
its neighbours change its text. Memory is that of the slots and of a bounded look-ahead, whatever the number of samples.
"""

from __future__ import annotations

import collections
import functools
import itertools
import math
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, NamedTuple

import jax
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from dawgen_jax.backbones.base import BATCH_AXES, EmbedFn, Generated, Rows, Work
from dawgen_jax.backbones.sampling import Sampling
from dawgen_jax.backbones.t5 import decode, model, partition
from dawgen_jax.backbones.t5.config import T5Config
from dawgen_jax.backbones.t5.decode import Encoded
from dawgen_jax.errors import ConfigError, UserError
from dawgen_jax.io import world

__all__ = ["Decoder"]

_GROUP_TOKENS = 256
"""Source tokens that are encoded together: enough to keep matrix products efficient."""


class Decoder:
    """Compiled decoding of one model under fixed shapes, for any number of parameters, prompts and streams.

    Attributes:
      traces: how often each program was traced, by name.
      programs: the jitted functions by name, to be lowered from shapes.
      cut: how many sources of generated samples were longer than the largest width and lost text.
      steps: how many tokens one slot could have had so far; times the slots this is what all tokens cost.
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
        draw: bool = True,
        mesh: Mesh | None = None,
        teams: int = 1,
    ):
        """
        Args:
          config: the model.
          embed_fn: (theta, prompts, rows) -> (embeddings, mask); see :data:`dawgen_jax.backbones.base.EmbedFn`.
          slots: samples decoded together (rounded up to a multiple of the mesh).
          widths: source lengths that the encoder is compiled for, places of soft rows in the text included; a sample
            uses the smallest that holds it, and the largest sizes the slots.
          max_new_tokens: the largest budget of a sample.
          refill: free slots that are waited for before they are filled; 0 is a sixteenth of the slots.
          banned: tokens that are never chosen (sentinels, rows without a token); padding is always among them.
          exempt: tokens that are never penalised beside padding and end of sequence.
          penalty: False drops the repetition penalty and its state; a sample that asks for one is then refused.
          draw: False compiles greedy decoding only; a sample with a temperature is then refused.
          mesh: slots are spread over its axes 'data' and 'fsdp', heads of their caches over 'tensor', parameters
            as :mod:`dawgen_jax.backbones.t5.partition` says.
          teams: decoders, each on a mesh of its own, that share the work; ``slots`` are those of all. Each device meets
            the shapes that one decoder on all devices would give it, and so the same numbers to the bit (of parameters
            that are cut, XLA may order the sums otherwise).

        Raises:
          ConfigError: a number out of range, or no token left to choose.
        """
        for name, value in (("slots", slots), ("max_new_tokens", max_new_tokens), ("widths", min(widths, default=0))):
            if value < 1:
                raise ConfigError(f"{name} = {value}: must be 1 or more to generate anything.")
        axes = {} if mesh is None else mesh.shape
        spread = tuple(axis for axis in BATCH_AXES if axis in axes)
        self._teams, self._devices = teams, teams * math.prod(axes[axis] for axis in spread)
        self.config, self.embed_fn, self.widths = config, embed_fn, tuple(sorted(set(widths)))
        self.slots = self._share(slots)
        self.refill = min(refill or max(1, slots // 16), self.slots)
        self.max_new_tokens, self.penalty, self.draw, self.lookahead = max_new_tokens, penalty, draw, 8 * self.slots
        self.traces: collections.Counter = collections.Counter()
        self.programs: dict[str, Any] = {}
        self.cut = self.steps = 0
        self.banned, self.exempt = np.zeros((2, config.vocab_size), bool)
        self.banned[[config.pad_id, *banned]] = True
        self.exempt[[config.pad_id, config.eos_id, *exempt]] = True
        if np.delete(self.banned, config.eos_id).all():
            raise ConfigError("banned: covers the whole vocabulary but the end of sequence; leave a token to choose.")

        place = None if mesh is None else functools.partial(NamedSharding, mesh)
        whole, split, heads = PartitionSpec(), PartitionSpec(spread), partition.heads_axis(config, axes)
        theta = partition.layout(config, axes)
        layers, encoded = partition.unstacked(theta, config), Encoded(PartitionSpec(None, heads), whole)
        slots = decode.Slots(**dict.fromkeys(decode.Slots.__dataclass_fields__, split)).replace(
            cache=PartitionSpec(spread, heads), encoded=Encoded(PartitionSpec(spread, heads), split))
        self.unstack = self._compile(place, model.unstack, (theta,), layers, config=config)
        self.empty = self._compile(
            place, decode.empty, (), slots, config=config, slots=self.slots, new_tokens=max_new_tokens, penalty=penalty
        )
        self.encode = self._compile(
            place, decode.encode, (layers, whole, split), encoded, config=config, embed_fn=embed_fn
        )
        self.place = self._compile(place, decode.place, (slots, encoded, *[whole] * 4), slots)
        self.advance = self._compile(
            place, decode.advance, (slots, layers, whole), slots,
            banned=self.banned, exempt=self.exempt, draw=draw, config=config,
        )  # fmt: skip
        self._score = self._compile(
            place, decode.score, (theta, whole, split, split, split), split, config=config, embed_fn=embed_fn
        )

    def _share(self, count: int) -> int:
        """This decoder's part of ``count`` rows of all teams, which their devices share evenly."""
        return -(-count // self._devices) * self._devices // self._teams

    def _compile(self, place, function, arguments, result, **bound):
        """``function``, jitted and its traces counted; slots, where they are an argument, are donated."""

        def counted(*values):
            self.traces[function.__name__] += 1
            return function(*values, **bound)

        options = {"donate_argnums": 0} if function in (decode.place, decode.advance) else {}
        if function is decode.empty:
            options["static_argnums"] = 0
        if place is not None:
            options["out_shardings"] = jax.tree.map(place, result)
            if arguments:
                options["in_shardings"] = jax.tree.map(place, arguments)
        program = self.programs[function.__name__] = jax.jit(counted, **options)
        if "in_shardings" not in options:
            return program
        return lambda *values: program(*world.spread(values, options["in_shardings"]))

    def generate(self, theta, prompts, work: Iterable[Work], key: jax.Array) -> Iterator[Generated]:
        """Decode a stream of work; samples come as they end, not in the order of the work.

        Args:
          theta: the backbone's parameters.
          prompts: handed to ``embed_fn``.
          work: read as slots become free, a bounded number ahead.
          key: random key; a sample draws from fold_in(fold_in(key, label), index) and its position.

        Raises:
          UserError: a sample's settings are out of range, or the backbone's scores are not finite.
        """
        work = iter(work)
        stream = _Stream(self, self.unstack(theta), prompts, key)
        while True:
            room = self.lookahead - stream.waiting
            fresh = list(itertools.islice(work, room))
            for item in fresh:
                checked = self._checked(item)
                self.cut += len(checked.source) < len(item.source)
                stream.add(checked)
            if not stream.busy:
                return
            yield from stream.run(ending=len(fresh) < room)

    def score(self, theta, prompts, pairs: Iterable[tuple[Work, Generated]], labels: int) -> Iterator[np.ndarray]:
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
        count = self._share(max(1, self._teams * self.slots // labels))
        while chunk := list(itertools.islice(pairs, count)):
            sources = [self._checked(work) for work, _ in chunk]
            # A short chunk is filled up with copies, to keep the shapes.
            padded = [sources[i % len(sources)]._replace(label=label) for i in range(count) for label in range(labels)]
            targets = np.zeros((len(padded), self.max_new_tokens), np.int32)
            mask = np.zeros(targets.shape, bool)
            for i, (_, sample) in enumerate(chunk):
                text = np.append(sample.tokens, [self.config.eos_id] * sample.finished)
                targets[i * labels : (i + 1) * labels, : len(text)] = text
                mask[i * labels : (i + 1) * labels, : len(text)] = True
            rows = _rows(padded, self.width(max(len(work.source) for work in sources)))
            values = world.host(self._score(theta, prompts, rows, targets, mask)).reshape(count, labels, -1)
            for i in range(len(chunk)):
                yield values[i, :, : mask[i * labels].sum()]

    def width(self, length: int) -> int:
        """The width that a source of ``length`` is padded to."""
        return next(width for width in self.widths if width >= length)

    def group(self, width: int) -> int:
        """How many sources of ``width`` are encoded together."""
        return self._share(min(-(-_GROUP_TOKENS // width), self._teams * self.slots))

    def _checked(self, work: Work) -> Work:
        """``work`` with a source that fits; its text is cut at its end, before soft rows and the last token."""
        sampling, name = work.sampling, f"sample {work.index} of label {work.label}"
        penalty = sampling.repetition_penalty
        for field, ok, want in (
            ("max_new_tokens", 1 <= sampling.max_new_tokens <= self.max_new_tokens, f"1 to {self.max_new_tokens}"),
            ("min_new_tokens", sampling.min_new_tokens >= 0, "0 or more"),
            # Scores over a smaller one could overflow.
            ("temperature", sampling.temperature == 0 or 1e-4 <= sampling.temperature < np.inf,
             "0 (greedy), or 1e-4 or more"),
            ("temperature", self.draw or sampling.temperature == 0, "0, since this decoder has draw=False"),
            ("top_k", sampling.top_k >= 0, "0 (off) or more"),
            ("top_p", 0 < sampling.top_p <= 1, "greater than 0 and at most 1"),
            ("repetition_penalty", 0 < penalty < np.inf, "greater than 0"),
            ("repetition_penalty", self.penalty or penalty == 1, "1, since this decoder has penalty=False"),
        ):
            if not ok:
                raise UserError(f"{name}: {field} = {getattr(sampling, field)}: must be {want}.")
        source, limit = np.asarray(work.source, np.int32), self.widths[-1]
        slots = np.full(len(source), -1, np.int32) if work.slots is None else np.asarray(work.slots, np.int32)
        if not len(source):
            raise UserError(f"{name}: its source is empty; give at least the end of sequence.")
        if len(source) > limit:
            soft = np.flatnonzero(slots >= 0)
            tail = len(source) - (soft[0] if len(soft) else len(source) - 1)
            if tail > limit:
                raise UserError(f"{name}: {tail} soft rows and end of sequence exceed the source budget {limit}.")
            keep = np.r_[: limit - tail, len(source) - tail : len(source)]
            source, slots = source[keep], slots[keep]
        return work._replace(source=source, slots=slots)


def _rows(work: Sequence[Work], width: int) -> Rows:
    source, slots = np.zeros((len(work), width), np.int32), np.full((len(work), width), -1, np.int32)
    mask = np.zeros((len(work), width), bool)
    for i, item in enumerate(work):
        length = len(item.source)
        source[i, :length], slots[i, :length], mask[i, :length] = item.source, item.slots, True
    return Rows(source, mask, slots, np.asarray([item.label for item in work], np.int32))


class _Group(NamedTuple):
    """Encoded work, of which the first ``done`` are placed; the other fields are what ``place`` takes."""

    work: list[Work]
    encoded: Encoded
    keys: jax.Array
    sampling: Sampling
    penalised: np.ndarray
    done: int


class _Stream:
    """The slots, who is in them, and the work that waits for them."""

    def __init__(self, decoder: Decoder, theta, prompts, key: jax.Array):
        self.decoder, self.theta, self.prompts, self.key = decoder, theta, prompts, key
        self.queues: dict[int, collections.deque[Work]] = {width: collections.deque() for width in decoder.widths}
        self.occupants: list[Work | None] = [None] * decoder.slots
        self.positions = np.zeros(decoder.slots, np.int32)
        self.group: _Group | None = None
        widest = jax.eval_shape(decoder.embed_fn, theta, prompts, _rows([_FILLER], decoder.widths[-1]))
        self.state = decoder.empty(widest[1].shape[1])

    @property
    def waiting(self) -> int:
        """Samples that are not in a slot yet."""
        encoded = 0 if self.group is None else len(self.group.work) - self.group.done
        return encoded + sum(len(queue) for queue in self.queues.values())

    @property
    def busy(self) -> bool:
        return self.waiting > 0 or any(work is not None for work in self.occupants)

    def add(self, work: Work) -> None:
        self.queues[self.decoder.width(len(work.source))].append(work)

    def run(self, *, ending: bool) -> Iterator[Generated]:
        """Fill the free slots, decode until enough are free again, and hand out what has ended.

        Args:
          ending: no more work will come.
        """
        decoder = self.decoder
        free = [slot for slot, work in enumerate(self.occupants) if work is None]
        while free and self.waiting:
            if self.group is None:
                self.group = self._encode(ending)
            free = self._place(self.group, free)
        wanted = decoder.refill if self.waiting else decoder.slots
        state = self.state = decoder.advance(self.state, self.theta, np.int32(wanted))
        active, finished, healthy, position, tokens = world.host(
            (state.active, state.finished, state.healthy, state.position, state.tokens)
        )
        # Some slot took every step: one that goes on, or the last that ended.
        decoder.steps += int((position - self.positions).max())
        self.positions = position.copy()
        for slot, work in enumerate(self.occupants):
            if work is None or active[slot]:
                continue
            if not healthy[slot]:
                raise UserError(
                    f"sample {work.index} of label {work.label}: the backbone's scores are not finite; check its "
                    "weights (python -m train.check_backbone) and the soft prompts."
                )
            self.occupants[slot] = None
            text = tokens[slot, : position[slot] - finished[slot]].copy()
            yield Generated(work.label, work.index, text, bool(finished[slot]))

    def _encode(self, ending: bool) -> _Group:
        """Encode a group: of the widths that fill one (of all, at the end), that whose work has the longest budget.

        Long budgets first let the last slots end together.
        """
        decoder = self.decoder
        longest = functools.partial(sorted, key=lambda work: -work.sampling.max_new_tokens)
        queues = {width: longest(queue) for width, queue in self.queues.items() if queue}
        full = [] if ending else [width for width, queue in queues.items() if len(queue) >= decoder.group(width)]
        width = max(full or queues, key=lambda width: (queues[width][0].sampling.max_new_tokens, len(queues[width])))
        count, queue = decoder.group(width), queues[width]
        self.queues[width] = collections.deque(queue[count:])
        work = queue[:count]
        padded = [*work, *[_FILLER] * (count - len(work))]
        encoded = decoder.encode(self.theta, self.prompts, _rows(padded, width))
        penalised = np.full((count, width), decoder.config.vocab_size, np.int32)
        for i, item in enumerate(work):
            text = item.source[item.slots < 0]
            text = text[~decoder.exempt[text]]
            penalised[i, : len(text)] = text
        columns = zip(*(item.sampling for item in padded), strict=True)
        sampling = Sampling(*(np.asarray(c, old.dtype) for c, old in zip(columns, self.state.sampling, strict=True)))
        keys = _keys(self.key, *(np.asarray(c, np.int32) for c in zip(*(item[:2] for item in padded), strict=True)))
        return _Group(work, encoded, keys, sampling, penalised, 0)

    def _place(self, group: _Group, free: list[int]) -> list[int]:
        """Start work of ``group`` in the slots ``free`` and return those that stay free."""
        count = min(len(free), len(group.work) - group.done)
        where = np.full(len(group.penalised), self.decoder.slots, np.int32)
        where[group.done : group.done + count] = free[:count]
        self.state = self.decoder.place(self.state, group.encoded, where, group.keys, group.sampling, group.penalised)
        for slot, work in zip(free, group.work[group.done : group.done + count], strict=False):
            self.occupants[slot], self.positions[slot] = work, 0
        done = group.done + count
        self.group = None if done == len(group.work) else group._replace(done=done)
        return free[count:]


_FILLER = Work(0, 0, np.zeros(1, np.int32), np.full(1, -1, np.int32))
"""Fills a group's rectangle; never placed."""


@jax.jit
def _keys(key, labels, indices):
    return jax.vmap(lambda label, index: jax.random.fold_in(jax.random.fold_in(key, label), index))(labels, indices)
