"""Continuous batching: decodes a stream of work in a fixed number of slots, on one device or a mesh.

A slot holds one sample: its prefilled input and the cache of its generated tokens. Work waits in one queue per source
width, is prefilled in groups of equal width, and enters a slot as soon as one is free while the other slots continue.
Every program has a fixed shape and is compiled once. The shapes that a sample passes through depend only on its length,
and its randomness only on (key, label, index), so the order of the work and its neighbours do not change its text.
Memory is bounded by the slots and a short look-ahead, for any number of samples.

The model is any :class:`dawgen_jax.backbones.base.Model`; ``layers`` are its parameters as
:meth:`~dawgen_jax.backbones.base.Model.unstack` returns them.
"""

from __future__ import annotations

import collections
import functools
import itertools
import math
from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from flax import struct
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from dawgen_jax import prng
from dawgen_jax.backbones.base import BATCH_AXES, Cache, EmbedFn, Generated, Model, Prefilled, Rows, Work
from dawgen_jax.backbones.sampling import Sampling, next_tokens
from dawgen_jax.errors import ConfigError, UserError
from dawgen_jax.io import world

__all__ = ["Decoder", "Slots", "advance", "empty", "write"]

_GROUP_TOKENS = 256
"""Source tokens per prefill: enough to keep matrix products efficient."""
_DTYPES = Sampling(*(np.float32 if isinstance(value, float) else np.int32 for value in Sampling()))
"""Dtypes of the settings on the device; with JAX_ENABLE_X64 a float64 temperature would sample other tokens."""


@struct.dataclass
class Slots:
    """The state of B slots.

    Attributes:
      active: bool [B], True while a sample is being decoded.
      finished: bool [B], True if the last sample ended with the end of sequence.
      healthy: bool [B], True while all scores of the sample are finite.
      position: int32 [B], the number of tokens generated.
      tokens: int32 [B, U], the generated tokens.
      keys: random key [B] of the sample.
      sampling: settings [B].
      seen: bool [B, V], the penalised tokens ([B, 0] without a penalty).
      cache: the model's decoding state.
    """

    active: jax.Array
    finished: jax.Array
    healthy: jax.Array
    position: jax.Array
    tokens: jax.Array
    keys: jax.Array
    sampling: Sampling
    seen: jax.Array
    cache: Cache


def empty(source: int, *, model: Model, slots: int, new_tokens: int, penalty: bool) -> Slots:
    """``slots`` free slots for ``source`` input positions (soft rows included) and ``new_tokens`` tokens."""
    zeros = jnp.zeros(slots, jnp.int32)
    return Slots(
        active=zeros > 0,
        finished=zeros > 0,
        healthy=zeros == 0,
        position=zeros,
        tokens=jnp.zeros((slots, new_tokens), jnp.int32),
        keys=jax.random.split(prng.key(0), slots),
        sampling=jax.tree.map(lambda value, dtype: jnp.full(slots, value, dtype), Sampling(), _DTYPES),
        seen=jnp.zeros((slots, model.vocab_size if penalty else 0), bool),
        cache=model.empty(slots, source, new_tokens),
    )


def _prefill(layers, prompts, rows: Rows, *, model: Model, embed_fn: EmbedFn) -> Prefilled:
    return model.prefill(layers, *embed_fn(layers, prompts, rows))


def _insert(state: Slots, prefilled: Prefilled, where: jax.Array, keys: jax.Array, sampling: Sampling,
            penalised: jax.Array) -> Slots:
    """Insert prefilled samples into slots.

    Args:
      state: the slots.
      prefilled: R inputs, at most as wide as the slots.
      where: int32 [R], the slot of each input; B or more skips the input.
      keys: random key [R] of each sample.
      sampling: settings [R].
      penalised: int32 [R, N], tokens that are penalised from the start; entries of V or more are ignored.
    """

    def put(old, new):
        widths = [(0, 0)] * new.ndim
        if new.ndim > 1:
            axis = new.ndim - 2 if new.ndim == 4 else 1  # the input positions: [R, heads, T', d] and [R, T']
            widths[axis] = (0, old.shape[axis] - new.shape[axis])
        return old.at[where].set(jnp.pad(new, widths).astype(old.dtype), mode="drop")

    yes = jnp.ones(where.shape, bool)
    seen = state.seen
    if seen.shape[1]:
        fresh = jnp.zeros((len(where), seen.shape[1]), bool)
        seen = put(seen, fresh.at[jnp.arange(len(where), dtype=jnp.int32)[:, None], penalised].set(True, mode="drop"))
    return state.replace(
        active=put(state.active, yes),
        finished=put(state.finished, ~yes),
        healthy=put(state.healthy, yes),
        position=put(state.position, jnp.zeros_like(where)),
        keys=state.keys.at[where].set(keys, mode="drop"),
        sampling=jax.tree.map(put, state.sampling, sampling),
        seen=seen,
        # ``own`` is not cleared: a sample attends only to positions that it has written.
        cache=state.cache._replace(inputs=jax.tree.map(put, state.cache.inputs, prefilled)),
    )


def write(old: jax.Array, new: jax.Array, position: jax.Array) -> jax.Array:
    """Keys or values [B, heads, U, d] with ``new`` [B, heads, 1, d] written at ``position`` int32 [B]."""
    zero = jnp.int32(0)  # a plain 0 would be int64 with JAX_ENABLE_X64, but all indices need the same dtype
    put = jax.vmap(lambda old, new, index: jax.lax.dynamic_update_slice(old, new, (zero, index, zero)))
    return put(old, new, position)


def _step(layers, state: Slots, *, model: Model, banned: jax.Array, eos_id: int, draw: bool) -> Slots:
    """Decode one token in every active slot."""
    rows, length = state.tokens.shape
    last = jnp.take_along_axis(state.tokens, jnp.maximum(state.position - 1, 0)[:, None], axis=1)
    started = (state.position > 0)[:, None]
    inputs = jnp.where(started, model.embed(layers, last)[:, 0], state.cache.inputs.first)
    # A slot that has used up the largest budget is at position U, past the end of its cache; its result is not used.
    hidden, own = model.step(layers, state.cache, inputs, jnp.minimum(state.position, length - 1))
    keys, seen = jax.vmap(jax.random.fold_in)(state.keys, state.position), state.seen
    tokens, healthy = next_tokens(
        model.logits(layers, hidden), state.sampling, keys=keys, position=state.position, banned=banned, eos_id=eos_id,
        seen=seen if seen.shape[1] else None, draw=draw)
    here = (jnp.arange(length, dtype=jnp.int32)[None] == state.position[:, None]) & state.active[:, None]
    finished = state.active & (tokens == eos_id)
    if seen.shape[1]:
        repeated = jnp.where(state.active & ~finished, tokens, seen.shape[1])  # index V is dropped
        seen = seen.at[jnp.arange(rows, dtype=jnp.int32), repeated].set(True, mode="drop")
    position = state.position + state.active.astype(jnp.int32)
    return state.replace(
        active=state.active & ~finished & (position < state.sampling.max_new_tokens),
        finished=state.finished | finished,
        healthy=state.healthy & (healthy | ~state.active),
        position=position,
        tokens=jnp.where(here, tokens[:, None], state.tokens),
        seen=seen,
        cache=state.cache._replace(own=own),
    )


def advance(state: Slots, layers, free: jax.Array, *, model: Model, banned: np.ndarray, eos_id: int, draw: bool
            ) -> Slots:
    """Decode until at least ``free`` slots are free.

    Args:
      state: the slots.
      layers: parameters.
      free: int32; B runs all samples to completion.
      model: the model.
      banned: bool [V], tokens that are never chosen.
      eos_id: end of sequence.
      draw: False if every sample is greedy.
    """
    step = functools.partial(_step, layers, model=model, banned=jnp.asarray(banned), eos_id=eos_id, draw=draw)
    return jax.lax.while_loop(lambda state: jnp.sum(~state.active, dtype=jnp.int32) < free, step, state)


def _score(theta, prompts, rows: Rows, targets: jax.Array, target_mask: jax.Array, *, model: Model, embed_fn: EmbedFn
           ) -> jax.Array:
    """Teacher-forced log-probabilities of target tokens under the rows' prompts: log Pr(x_t | x_<t, s; Q_label).

    Args:
      theta: parameters.
      prompts: passed to ``embed_fn``.
      rows: R inputs, whose ``label`` selects the prompt under which a sample is scored.
      targets: int32 [R, U] tokens, with the end of sequence if the sample has one.
      target_mask: bool [R, U].
      model: the model.
      embed_fn: see :data:`EmbedFn`.

    Returns:
      float32 [R, U], 0 where the mask is False.
    """
    hidden = model.target_states(theta, *embed_fn(theta, prompts, rows), targets)

    def position(pair):
        hidden, target = pair
        scores = model.logits(theta, hidden)
        gold = jnp.take_along_axis(scores, target[:, None], axis=1)[:, 0]
        return gold - jax.nn.logsumexp(scores, axis=-1)

    # One position at a time: logits take [R, V] instead of [R, U, V].
    values = jax.lax.map(position, (hidden.swapaxes(0, 1), targets.swapaxes(0, 1))).swapaxes(0, 1)
    return jnp.where(target_mask, values, 0)


class Decoder:
    """Compiled decoding with a model under fixed shapes, for any parameters, prompts and streams of work.

    Attributes:
      traces: number of times that each program was traced, by name.
      cut: number of generated samples whose source exceeded the largest width and was truncated.
      steps: number of decoding steps so far; ``steps * slots`` is the cost in tokens.
    """

    def __init__(
        self,
        model: Model,
        embed_fn: EmbedFn,
        *,
        eos_id: int,
        banned: Iterable[int],
        slots: int = 64,
        widths: Sequence[int] = (128,),
        max_new_tokens: int = 50,
        refill: int = 0,
        penalty: bool = True,
        draw: bool = True,
        mesh: Mesh | None = None,
        teams: int = 1,
    ):
        """
        Args:
          model: the model.
          embed_fn: (theta, prompts, rows) -> (embeddings, mask); see :data:`dawgen_jax.backbones.base.EmbedFn`.
          eos_id: end of sequence, which is never penalised.
          banned: tokens that are never chosen: padding, sentinels, unused ids.
          slots: number of samples decoded together, rounded up to a multiple of the mesh.
          widths: source lengths for which prefilling is compiled, including positions of soft rows inside the text. A
            sample uses the smallest that holds it; the largest determines the size of the slots.
          max_new_tokens: the largest budget of a sample.
          refill: number of slots that must be free before they are refilled; 0 is a sixteenth of the slots.
          penalty: False compiles no repetition penalty; samples with a penalty are then refused.
          draw: False compiles greedy decoding only; samples with a temperature are then refused.
          mesh: the axes 'data' and 'fsdp' shard the slots; the model shards parameters and the heads of the caches.
          teams: number of decoders, each on a separate mesh, that share the work and ``slots``. Each device sees the
            shapes that one decoder on all devices would give it, so results are equal to the bit (with sharded
            parameters, XLA may add in another order).

        Raises:
          ConfigError: a number is out of range, or all tokens are banned.
        """
        for name, value in (("slots", slots), ("max_new_tokens", max_new_tokens), ("widths", min(widths, default=0))):
            if value < 1:
                raise ConfigError(f"{name} = {value}: must be 1 or more to generate anything.")
        never = np.zeros(model.vocab_size, bool)
        never[list(banned)] = True
        if np.delete(never, eos_id).all():
            raise ConfigError("banned: covers the whole vocabulary but the end of sequence; leave a token to choose.")
        axes = {} if mesh is None else mesh.shape
        spread = tuple(axis for axis in BATCH_AXES if axis in axes)
        self._teams, self._devices = teams, teams * math.prod(axes[axis] for axis in spread)
        self.embed_fn, self.eos_id, self.widths = embed_fn, eos_id, tuple(sorted(set(widths)))
        self.vocab_size, self.max_new_tokens, self.penalty, self.draw = model.vocab_size, max_new_tokens, penalty, draw
        self.slots = self._share(slots)
        self.refill, self.lookahead = min(refill or max(1, slots // 16), self.slots), 8 * self.slots
        self.traces: collections.Counter = collections.Counter()
        self.cut = self.steps = 0

        whole, split, heads = PartitionSpec(), PartitionSpec(spread), model.cache_heads(axes)
        theta, layers, own = model.layout(axes), model.unstacked_layout(axes), PartitionSpec(spread, heads)
        prefilled = Prefilled(PartitionSpec(None, heads), whole, whole)
        # ``first`` is replicated: if it were sharded over the slots, it would fix the layout of a step's activations,
        # and XLA would gather parameters sharded over 'fsdp' for every token instead of summing activations.
        state = Slots(**dict.fromkeys(Slots.__dataclass_fields__, split)).replace(
            cache=Cache(Prefilled(own, split, whole), own))
        self._programs, bind = {}, functools.partial
        compiled = bind(self._compile, None if mesh is None else bind(NamedSharding, mesh))
        self._unstack = compiled("unstack", model.unstack, (theta,), layers)
        start = bind(empty, model=model, slots=self.slots, new_tokens=max_new_tokens, penalty=penalty)
        self._empty = compiled("empty", start, (), state, static_argnums=0)
        prefill = bind(_prefill, model=model, embed_fn=embed_fn)
        self._prefill = compiled("prefill", prefill, (layers, whole, split), prefilled)
        # The slots are donated: they take most of the memory, and the old state is never read again.
        self._insert = compiled("place", _insert, (state, prefilled, *[whole] * 4), state, donate_argnums=0)
        loop = bind(advance, model=model, banned=never, eos_id=eos_id, draw=draw)
        self._advance = compiled("advance", loop, (state, layers, whole), state, donate_argnums=0)
        score = bind(_score, model=model, embed_fn=embed_fn)
        self._score = compiled("score", score, (theta, whole, split, split, split), split)

    def _compile(self, put, name: str, function, arguments: tuple, result, **options):
        """Jit ``function`` and count its traces by ``name``; ``put``, if given, turns a spec into a sharding."""

        def counted(*values):
            self.traces[name] += 1
            return function(*values)

        if put is not None:
            options["out_shardings"] = jax.tree.map(put, result)
            if arguments:
                options["in_shardings"] = jax.tree.map(put, arguments)
        program = self._programs[name] = jax.jit(counted, **options)
        if "in_shardings" not in options:
            return program
        return lambda *values: program(*world.spread(values, options["in_shardings"]))

    def _share(self, count: int) -> int:
        """This decoder's part of ``count`` rows, which the devices of all teams share evenly."""
        return -(-count // self._devices) * self._devices // self._teams

    def generate(self, theta, prompts, work: Iterable[Work], key: jax.Array) -> Iterator[Generated]:
        """Decode a stream of work; samples are yielded when they finish, not in the order of the work.

        Args:
          theta: the backbone's parameters.
          prompts: passed to ``embed_fn``.
          work: read when slots become free, with a bounded look-ahead.
          key: random key. A token is sampled with ``key`` folded with the sample's label, its index and the token's
            position, in this order.

        Raises:
          UserError: a sample's settings are out of range, or the backbone's scores are not finite.
        """
        work = iter(work)
        stream = _Stream(self, self._unstack(theta), prompts, key)
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
          prompts: passed to ``embed_fn``.
          pairs: work and its samples, scored in order.
          labels: L, the number of labels.

        Yields:
          For each pair float32 [L, U'], over the sample's tokens and, if it finished, its end of sequence.
        """
        pairs = iter(pairs)
        count = self._share(max(1, self._teams * self.slots // labels))
        while chunk := list(itertools.islice(pairs, count)):
            sources = [self._checked(work) for work, _ in chunk]
            # Copies fill up a short chunk, to keep the shapes fixed.
            padded = [sources[i % len(sources)]._replace(label=label) for i in range(count) for label in range(labels)]
            targets = np.zeros((len(padded), self.max_new_tokens), np.int32)
            mask = np.zeros(targets.shape, bool)
            for i, (_, sample) in enumerate(chunk):
                text = np.append(sample.tokens, [self.eos_id] * sample.finished)
                targets[i * labels : (i + 1) * labels, : len(text)] = text
                mask[i * labels : (i + 1) * labels, : len(text)] = True
            rows = _rows(padded, self.width(max(len(work.source) for work in sources)))
            values = world.host(self._score(theta, prompts, rows, targets, mask)).reshape(count, labels, -1)
            for i in range(len(chunk)):
                yield values[i, :, : mask[i * labels].sum()]

    def lowered(self, theta, prompts) -> jax.stages.Lowered:
        """The program that decodes tokens, lowered from the shapes of ``theta`` and ``prompts``."""
        slots = jax.eval_shape(functools.partial(self._programs["empty"], self._positions(theta, prompts)))
        layers = jax.eval_shape(self._programs["unstack"], theta)
        return self._programs["advance"].lower(slots, layers, jax.ShapeDtypeStruct((), np.int32))

    def _positions(self, theta, prompts) -> int:
        """T', the input positions of a slot: the largest width plus the soft rows in front of it."""
        _, mask = jax.eval_shape(self.embed_fn, theta, prompts, _rows([_FILLER], self.widths[-1]))
        return mask.shape[1]

    def width(self, length: int) -> int:
        """The width to which a source of ``length`` is padded."""
        return next(width for width in self.widths if width >= length)

    def group(self, width: int) -> int:
        """The number of sources of ``width`` that are prefilled together."""
        return self._share(min(-(-_GROUP_TOKENS // width), self._teams * self.slots))

    def _checked(self, work: Work) -> Work:
        """``work`` with its source cut to fit: text is removed in front of the soft rows, or of the last token."""
        sampling, name = work.sampling, f"sample {work.index} of label {work.label}"
        penalty = sampling.repetition_penalty
        for field, ok, want in (
            ("max_new_tokens", 1 <= sampling.max_new_tokens <= self.max_new_tokens, f"1 to {self.max_new_tokens}"),
            ("min_new_tokens", sampling.min_new_tokens >= 0, "0 or more"),
            # Dividing by a smaller temperature could overflow.
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
            raise UserError(f"{name}: its source is empty; give at least one token.")
        if len(source) > limit:
            soft = np.flatnonzero(slots >= 0)
            tail = len(source) - (soft[0] if len(soft) else len(source) - 1)
            if tail > limit:
                raise UserError(f"{name}: its {tail} soft rows and last tokens exceed the source budget {limit}.")
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
    """Prefilled work, of which ``done`` samples are in slots; the other fields are arguments of ``_insert``."""

    work: list[Work]
    prefilled: Prefilled
    keys: jax.Array
    sampling: Sampling
    penalised: np.ndarray
    done: int


class _Stream:
    """The slots, the work in them, and the work that waits."""

    def __init__(self, decoder: Decoder, layers, prompts, key: jax.Array):
        self.decoder, self.layers, self.prompts, self.key = decoder, layers, prompts, key
        self.queues: dict[int, collections.deque[Work]] = {width: collections.deque() for width in decoder.widths}
        self.occupants: list[Work | None] = [None] * decoder.slots
        self.positions = np.zeros(decoder.slots, np.int32)
        self.group: _Group | None = None
        self.state = decoder._empty(decoder._positions(layers, prompts))

    @property
    def waiting(self) -> int:
        """Number of samples that are not in a slot yet."""
        prefilled = 0 if self.group is None else len(self.group.work) - self.group.done
        return prefilled + sum(len(queue) for queue in self.queues.values())

    @property
    def busy(self) -> bool:
        return self.waiting > 0 or any(work is not None for work in self.occupants)

    def add(self, work: Work) -> None:
        self.queues[self.decoder.width(len(work.source))].append(work)

    def run(self, *, ending: bool) -> Iterator[Generated]:
        """Fill the free slots, decode until enough of them are free again, and yield the finished samples.

        Args:
          ending: True if no more work will be added.
        """
        decoder = self.decoder
        free = [slot for slot, work in enumerate(self.occupants) if work is None]
        while free and self.waiting:
            if self.group is None:
                self.group = self._next_group(ending)
            free = self._start(self.group, free)
        wanted = decoder.refill if self.waiting else decoder.slots
        state = self.state = decoder._advance(self.state, self.layers, np.int32(wanted))
        fields = state.active, state.finished, state.healthy, state.position, state.tokens
        active, finished, healthy, position, tokens = world.host(fields)
        # At least one slot took every step: either it is still active, or it finished last.
        decoder.steps += int((position - self.positions).max())
        self.positions = position.copy()
        for slot, work in enumerate(self.occupants):
            if work is None or active[slot]:
                continue
            if not healthy[slot]:
                raise UserError(f"sample {work.index} of label {work.label}: the backbone's scores are not finite; "
                                "check its weights (dawgen backbone check) and the soft prompts.")
            self.occupants[slot] = None
            text = tokens[slot, : position[slot] - finished[slot]].copy()
            yield Generated(work.label, work.index, text, bool(finished[slot]))

    def _next_group(self, ending: bool) -> _Group:
        """Prefill a group of equal width.

        Among the widths with enough work for a group (all of them at the end), choose the one whose work has the
        largest budget: starting long samples first lets the last slots finish together.
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
        prefilled = decoder._prefill(self.layers, self.prompts, _rows(padded, width))
        penalised = np.full((count, width), decoder.vocab_size, np.int32)
        for i, item in enumerate(work):
            text = item.source[item.slots < 0]
            text = text[text != decoder.eos_id]
            penalised[i, : len(text)] = text
        sampling = Sampling(*map(np.asarray, zip(*(item.sampling for item in padded), strict=True), _DTYPES))
        keys = _keys(self.key, *(np.asarray(c, np.int32) for c in zip(*(item[:2] for item in padded), strict=True)))
        return _Group(work, prefilled, keys, sampling, penalised, 0)

    def _start(self, group: _Group, free: list[int]) -> list[int]:
        """Start work of ``group`` in the slots ``free``, and return the slots that stay free."""
        count = min(len(free), len(group.work) - group.done)
        where = np.full(len(group.penalised), self.decoder.slots, np.int32)
        where[group.done : group.done + count] = free[:count]
        self.state = self.decoder._insert(
            self.state, group.prefilled, where, group.keys, group.sampling, group.penalised)
        for slot, work in zip(free, group.work[group.done : group.done + count], strict=False):
            self.occupants[slot], self.positions[slot] = work, 0
        done = group.done + count
        self.group = None if done == len(group.work) else group._replace(done=done)
        return free[count:]


_FILLER = Work(0, 0, np.zeros(1, np.int32), np.full(1, -1, np.int32))
"""Filler for a group of fixed size; it never enters a slot."""


@jax.jit
def _keys(key, labels, indices):
    return jax.vmap(lambda label, index: jax.random.fold_in(jax.random.fold_in(key, label), index))(labels, indices)
