"""The processes that run one program together: how they meet, who leads, what they agree on, arrays that span them.

Every process runs the same program on the same inputs, and JAX runs its compiled steps over the devices of all. What is
on the host happens once: process 0 leads, alone prints and writes into the run directory (which all must see; what is
generated apart, each writes itself), and what may differ between processes (is this file there?) is told by the leader,
:func:`led`, or by each to all, :func:`gathered`. One process is a world of its own, and leads it; nothing here costs it
anything.

JAX itself finds the others on Cloud TPU, GKE, Slurm, Open MPI 4 and Kubernetes; elsewhere it is told, and a program
whose environment says that it is one of several does not run alone without being told.
"""

from __future__ import annotations

import contextlib
import dataclasses
import itertools
import json
import os
import sys
import threading
import warnings
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from dawgen_jax.errors import UserError

__all__ = ["Processes", "Stopped", "count", "gathered", "host", "initialize", "leads", "led", "listening", "listens",
           "number", "place", "spread", "stopping", "tell_to_stop", "topology"]

HEARTBEAT = 30
"""Seconds after which a process that is gone ends the others (a broken connection ends them at once); those that are
done wait for it twice as long at their end."""

_turns, _steps = itertools.count(), itertools.count()
_state = {"leading": False, "listening": False, "told": False, "stopped_status": 0}
_INDEXED_POD = {"KUBERNETES_SERVICE_HOST", "JOB_COMPLETION_INDEX"}
"""Variables of a pod that is one of several, by its number."""
_LAUNCHED = (("OMPI_COMM_WORLD_SIZE", "OMPI_COMM_WORLD_RANK"), ("PMI_SIZE", "PMI_RANK"),
             ("MV2_COMM_WORLD_SIZE", "MV2_COMM_WORLD_RANK"), ("SLURM_STEP_NUM_TASKS", "SLURM_PROCID"),
             ("FLUX_JOB_SIZE", "FLUX_TASK_RANK"), ("WORLD_SIZE", "RANK"), ("", "PMIX_RANK"), ("", "PALS_RANKID"))
"""Variables of a process that a launcher has started, the number of processes and that of this one: Open MPI; MPICH and
Intel MPI; MVAPICH; Slurm's srun; Flux; torchrun; prterun and PALS, which state no number. SLURM_NTASKS is not one of
them: a batch script and a shell in an allocation, which are one process, have it too."""


@dataclasses.dataclass(frozen=True)
class Processes:
    """What a program is told of the others; what is left out JAX finds itself, where it knows the launcher.

    Attributes:
      coordinator: 'host:port' of process 0.
      num_processes: how many there are; 1 runs alone, whatever the launcher.
      process_id: the number of this one, from 0.
      local_device_ids: numbers of the devices of this machine that are this process's; empty are all, or under Slurm
        and Open MPI that of its local rank.
      timeout: seconds in which all must have met.
      stopped_status: the exit status of a program that was told to stop and has saved what it did. Clusters that
        start again only what failed need one that is not 0.
    """

    coordinator: str | None = None
    num_processes: int | None = None
    process_id: int | None = None
    local_device_ids: tuple[int, ...] = ()
    timeout: int = 300
    stopped_status: int = 0


def initialize(told: Processes) -> None:
    """Meet the other processes, if there are any; to be called before anything asks JAX for a device.

    If they have not met in time, this process ends at once with a sentence and exit status 2: JAX's wait for them
    cannot be broken off by an exception.

    Raises:
      UserError: what was told does not fit together, or a launcher has started several processes and JAX finds one.
    """
    _state["stopped_status"] = told.stopped_status
    if told.num_processes == 1:
        return
    several = _several()
    if not several and told == Processes(timeout=told.timeout, stopped_status=told.stopped_status) and (
            os.environ.get("SLURM_STEP_NUM_TASKS") == "1" != os.environ.get("SLURM_NTASKS")):
        return  # a shell in an allocation: JAX would wait for as many processes as were allocated
    _join(told)
    if several and count() == 1:
        raise UserError(f"{several} = {os.environ[several]}: a launcher has started several processes, but JAX finds "
                        "only this one; give each --coordinator HOST:PORT --num-processes N --process-id I, or let "
                        "each run alone with --num-processes 1.")


def _several() -> str:
    """The environment variable which says that this process is one of several that a launcher has started, or ''."""
    def number(variable: str) -> int:
        text = os.environ.get(variable, "")
        return int(text) if text.isascii() and text.isdigit() else 0

    for size, rank in _LAUNCHED:
        if rank in os.environ and number(size) > 1:
            return size
        if number(rank) > 0:
            return rank
    return ""


def _join(told: Processes) -> None:
    """Meet the other processes of a launcher that JAX knows, or that the command names."""
    import jax  # programs that need none may import this module

    stated = (told.coordinator, told.num_processes, told.process_id)

    def give_up() -> None:
        print(f"error: the processes have not met within {told.timeout} s{_advice(told)}", file=sys.stderr, flush=True)
        os._exit(2)

    late = threading.Timer(told.timeout, give_up)  # JAX's own end of waiting is an abort with a stack of C++
    late.daemon = True
    late.start()
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", "Kubernetes environment")  # what is to be done is said below
            jax.distributed.initialize(*stated, told.local_device_ids or None, initialization_timeout=2 * told.timeout,
                                       heartbeat_timeout_seconds=HEARTBEAT, shutdown_timeout_seconds=2 * HEARTBEAT)
        jax.devices()  # each waits for the devices of all
    except (RuntimeError, TypeError, ValueError) as error:
        if stated == (None, None, None) and "coordinator_address" in str(error):  # no launcher that JAX knows
            if os.environ.keys() >= _INDEXED_POD:
                raise UserError("this pod is one of an indexed job, and JAX finds the others only with the package "
                                "kubernetes: install it (pip install 'dawgen-jax[k8s]'), or let this one run alone "
                                "with --num-processes 1.") from None
            return
        reason = str(error).strip().partition("\n")[0].rstrip(".")
        raise UserError(f"the processes cannot meet: {reason}{_advice(told)}") from None
    finally:
        late.cancel()


def _advice(told: Processes) -> str:
    """' (--coordinator a:1, ...); start ...': what this process was told, or has found itself."""
    found = _joined()
    known = {"coordinator": told.coordinator or found.coordinator_address,
             "num-processes": told.num_processes or (found.num_processes if found.client else None),
             "process-id": found.process_id if found.coordinator_address else told.process_id}
    words = ", ".join(f"--{name} {value}" for name, value in known.items() if value is not None)
    return (f" ({words}); start every process with the same coordinator and number and an id of its own, or one alone "
            "with --num-processes 1.")


def topology() -> str:
    """'2 processes, 8 devices of cpu (4, 4)'."""
    import jax

    devices = jax.devices()
    of_each = [sum(device.process_index == process for device in devices) for process in range(count())]
    return f"{count()} processes, {len(devices)} devices of {devices[0].device_kind} ({', '.join(map(str, of_each))})"


def _joined() -> Any:
    """What JAX knows of the processes, and the coordinator's key-value store (``client``), which have no public names.

    The public ones start a backend, which a program that computes nothing does not need, and speak over collectives of
    devices, which give up on CPU where one process is half a minute late.
    """
    from jax._src import distributed

    return distributed.global_state


def count() -> int:
    """How many processes there are."""
    return _joined().num_processes


def number() -> int:
    """The number of this process, from 0."""
    return _joined().process_id


def leads() -> bool:
    """Whether this is process 0, which prints and writes."""
    return number() == 0


def led(function: Callable[[], Any]) -> Any:
    """What ``function()`` gives on the leader, on every process; the others wait for it, and do not call it.

    Args:
      function: gives what JSON holds; what it writes is there when the others go on.

    Raises:
      UserError: the leader's.
      RuntimeError: on the others, where the leader failed in another way.
    """
    if count() == 1 or _state["leading"]:
        return function()
    key = f"dawgen/{next(_turns)}"
    store = _joined().client
    if not leads():
        # No limit: the leader may wait for another job's claim, and a dead one ends this process.
        try:
            told = json.loads(store.blocking_key_value_get(key, 10**9))
        except RuntimeError as error:
            raise UserError(f"process 0 has gone ({str(error).partition(':')[0]}); start all of them again, and they "
                            "go on from what is finished or checkpointed.") from error
        if "error" in told:
            raise (UserError if told["foreseen"] else RuntimeError)(told["error"])
        return told["value"]
    _state["leading"] = True
    try:
        value = function()
    except BaseException as error:
        store.key_value_set(key, json.dumps({"error": str(error), "foreseen": isinstance(error, UserError)}))
        raise
    finally:
        _state["leading"] = False
    store.key_value_set(key, json.dumps({"value": value}))
    return value


def gathered(function: Callable[[], Any]) -> list[Any]:
    """What ``function()`` gives on every process, by their numbers; each calls it, and all wait for all.

    Args:
      function: gives what JSON holds, and little of it; what it writes is there when the processes go on.

    Raises:
      UserError: that of the first process that raised one, on all of them.
    """
    if count() == 1:
        return [function()]
    key, store = f"dawgen/{next(_turns)}", _joined().client
    try:
        answer = {"value": function()}
    except UserError as error:  # of another kind: this process ends, and thereby the others
        answer = {"error": str(error)}
    store.key_value_set(f"{key}/{number()}", json.dumps(answer))
    answers = led(lambda: [json.loads(store.blocking_key_value_get(f"{key}/{process}", 10**9))
                           for process in range(count())])
    for answer in answers:
        if "error" in answer:
            raise UserError(answer["error"])
    return [answer["value"] for answer in answers]


def place(array: Any, sharding: Any) -> Any:
    """A global array of a host array that every process holds: each puts the parts of its own devices there.

    Args:
      array: of NumPy, or one of JAX, which stays where it is if it spans processes already.
      sharding: where to; None is the default device.
    """
    import jax

    if sharding is None or sharding.is_fully_addressable:
        return jax.device_put(array, sharding)
    if isinstance(array, jax.Array):
        if not array.is_fully_addressable:
            return jax.device_put(array, sharding)
        if jax.dtypes.issubdtype(array.dtype, jax.dtypes.prng_key):
            data = place(jax.random.key_data(array), sharding)
            return jax.random.wrap_key_data(data, impl=jax.random.key_impl(array))
    array = np.asarray(array)
    return jax.make_array_from_callback(array.shape, sharding, lambda index: array[index])


def spread(tree: Any, shardings: Any) -> Any:
    """:func:`place` of every leaf that the devices of several processes share; one process leaves that to ``jax.jit``.

    Args:
      tree: host arrays, and arrays that are placed.
      shardings: a tree of which each leaf counts for all below it.
    """
    import jax

    if count() == 1:
        return tree
    return jax.tree.map(lambda sharding, part: jax.tree.map(lambda leaf: place(leaf, sharding), part), shardings, tree)


def host(tree: Any) -> Any:
    """A tree of whole NumPy arrays; every process must ask for it, where its arrays are cut over processes."""
    import jax
    from jax.experimental import multihost_utils

    def fetch(leaf):
        if isinstance(leaf, jax.Array) and not (leaf.is_fully_addressable or leaf.is_fully_replicated):
            return multihost_utils.process_allgather(leaf, tiled=True)
        return leaf

    return jax.device_get(jax.tree.map(fetch, tree))


class Stopped(SystemExit):
    """The end of a program that was told to stop and has saved what it did; its status is what was told."""

    def __init__(self):
        super().__init__(_state["stopped_status"])


@contextlib.contextmanager
def listening() -> Iterator[None]:
    """Inside, a program that is told to stop goes on until it asks :func:`stopping`."""
    _state["listening"] = True
    try:
        yield
    finally:
        _state["listening"] = False


def listens() -> bool:
    """Whether a program that is told to stop now will end by itself, when its progress is saved."""
    return _state["listening"]


def tell_to_stop() -> bool:
    """Tell a world of one process to stop; whether it listens. (JAX takes the signal where there are several.)"""
    _state["told"] = listens()
    return listens()


def stopping() -> bool:
    """Whether a process was told to stop, by SIGTERM: the same on all processes at the same call.

    All processes must call it equally often.
    """
    if count() > 1 and not _state["told"]:
        from jax.experimental import multihost_utils

        _state["told"] = multihost_utils.reached_preemption_sync_point(next(_steps))
    return _state["told"]
