"""Multi-process programs: initialisation, the leader, agreement between processes, and arrays that span them.

Every process runs the same program on the same inputs, and JAX runs its compiled steps on the devices of all processes.
Only process 0, the leader, prints and writes into the run directory, which all processes must see; parts that teams
generate separately are the exception. Facts that may differ between processes (for instance, whether a file exists) are
sent by the leader with :func:`led`, or exchanged with :func:`gathered`. A single process is its own leader, at no cost.

JAX finds the other processes on Cloud TPU, GKE, Slurm, Open MPI 4 and Kubernetes; elsewhere they are given as options.
A process that is one of several according to its environment stops if JAX finds no others.
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
"""Seconds without a heartbeat after which a lost process ends the others (a broken connection ends them at once). On
exit, finished processes wait for the others twice as long."""

_turns, _steps = itertools.count(), itertools.count()
_state = {"leading": False, "listening": False, "stop": False, "stopped_status": 0}
_INDEXED_POD = {"KUBERNETES_SERVICE_HOST", "JOB_COMPLETION_INDEX"}
"""Environment variables of a pod of an indexed job."""
_LAUNCHED = (("OMPI_COMM_WORLD_SIZE", "OMPI_COMM_WORLD_RANK"), ("PMI_SIZE", "PMI_RANK"),
             ("MV2_COMM_WORLD_SIZE", "MV2_COMM_WORLD_RANK"), ("SLURM_STEP_NUM_TASKS", "SLURM_PROCID"),
             ("FLUX_JOB_SIZE", "FLUX_TASK_RANK"), ("WORLD_SIZE", "RANK"), ("", "PMIX_RANK"), ("", "PALS_RANKID"))
"""Variables of a process that a launcher has started, the number of processes and that of this one: Open MPI; MPICH and
Intel MPI; MVAPICH; Slurm's srun; Flux; torchrun; prterun and PALS, which state no number. SLURM_NTASKS is not one of
them: a batch script and a shell in an allocation, which are one process, have it too."""


@dataclasses.dataclass(frozen=True)
class Processes:
    """Options about the processes of a program; if omitted, JAX takes them from a launcher that it knows.

    Attributes:
      coordinator: 'host:port' of process 0.
      num_processes: number of processes; 1 runs alone under any launcher.
      process_id: index of this process, from 0.
      local_device_ids: devices of this machine that belong to this process; empty means all devices, or under Slurm and
        Open MPI the device of its local rank.
      timeout: seconds within which all processes must have connected.
      stopped_status: exit status of a program that was asked to stop and has saved its progress. Clusters that restart
        only failed programs need a value other than 0.
    """

    coordinator: str | None = None
    num_processes: int | None = None
    process_id: int | None = None
    local_device_ids: tuple[int, ...] = ()
    timeout: int = 300
    stopped_status: int = 0


def initialize(processes: Processes) -> None:
    """Connect to the other processes, if there are any; call it before anything asks JAX for a device.

    On a timeout this process exits at once with a message and exit status 2, since no exception can interrupt JAX's
    wait.

    Raises:
      UserError: the options are contradictory, or a launcher has started several processes and JAX finds only one.
    """
    _state["stopped_status"] = processes.stopped_status
    if processes.num_processes == 1:
        return
    several = _several()
    if not several and processes == Processes(timeout=processes.timeout, stopped_status=processes.stopped_status) and (
            os.environ.get("SLURM_STEP_NUM_TASKS") == "1" != os.environ.get("SLURM_NTASKS")):
        return  # a shell in an allocation: JAX would wait for as many processes as were allocated
    _join(processes)
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


def _join(processes: Processes) -> None:
    """Connect to the other processes of a launcher that JAX knows, or of the options."""
    import jax  # programs that do not need it may import this module

    stated = (processes.coordinator, processes.num_processes, processes.process_id)

    def give_up() -> None:
        print(f"error: the processes have not met within {processes.timeout} s{_hint(processes)}", file=sys.stderr,
              flush=True)
        os._exit(2)

    late = threading.Timer(processes.timeout, give_up)  # JAX's timeout aborts with a C++ stack trace
    late.daemon = True
    late.start()
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", "Kubernetes environment")  # the error below explains what to do
            jax.distributed.initialize(*stated, processes.local_device_ids or None,
                                       initialization_timeout=2 * processes.timeout,
                                       heartbeat_timeout_seconds=HEARTBEAT, shutdown_timeout_seconds=2 * HEARTBEAT)
        jax.devices()  # waits for the devices of all processes
    except (RuntimeError, TypeError, ValueError) as error:
        if stated == (None, None, None) and "coordinator_address" in str(error):  # no launcher that JAX knows
            if os.environ.keys() >= _INDEXED_POD:
                raise UserError("this pod is one of an indexed job, and JAX finds the others only with the package "
                                "kubernetes: install it (pip install 'dawgen-jax[k8s]'), or let this one run alone "
                                "with --num-processes 1.") from None
            return
        reason = str(error).strip().partition("\n")[0].rstrip(".")
        raise UserError(f"the processes cannot meet: {reason}{_hint(processes)}") from None
    finally:
        late.cancel()


def _hint(processes: Processes) -> str:
    """' (--coordinator a:1, ...); start ...': the options of this process, given or found by JAX."""
    found = _joined()
    known = {"coordinator": processes.coordinator or found.coordinator_address,
             "num-processes": processes.num_processes or (found.num_processes if found.client else None),
             "process-id": found.process_id if found.coordinator_address else processes.process_id}
    words = ", ".join(f"--{name} {value}" for name, value in known.items() if value is not None)
    return (f" ({words}); start every process with the same coordinator and number and a distinct id, or a single one "
            "with --num-processes 1.")


def topology() -> str:
    """Describe the world, for instance '2 processes, 8 devices of cpu (4, 4)'."""
    import jax

    devices = jax.devices()
    of_each = [sum(device.process_index == process for device in devices) for process in range(count())]
    return f"{count()} processes, {len(devices)} devices of {devices[0].device_kind} ({', '.join(map(str, of_each))})"


def _joined() -> Any:
    """JAX's private state of the processes, including the coordinator's key-value store (``client``).

    The public functions start a backend, which a program without computation does not need, and communicate by
    collectives of devices, which time out on CPU if one process is half a minute late.
    """
    from jax._src import distributed

    return distributed.global_state


def count() -> int:
    """The number of processes."""
    return _joined().num_processes


def number() -> int:
    """The index of this process, from 0."""
    return _joined().process_id


def leads() -> bool:
    """Whether this is process 0, which prints and writes."""
    return number() == 0


def led(function: Callable[[], Any]) -> Any:
    """Call ``function`` on the leader only, and return its result on every process; the others wait.

    Args:
      function: returns a JSON value; files that it writes exist when the others continue.

    Raises:
      UserError: the leader raised it.
      RuntimeError: on the other processes, if the leader failed with another error.
    """
    if count() == 1 or _state["leading"]:
        return function()
    key = f"dawgen/{next(_turns)}"
    store = _joined().client
    if not leads():
        # No timeout: the leader may wait for another job's lock, and the coordinator ends this process if it dies.
        try:
            answer = json.loads(store.blocking_key_value_get(key, 10**9))
        except RuntimeError as error:
            raise UserError(f"process 0 has gone ({str(error).partition(':')[0]}); start all of them again, and they "
                            "resume from what is finished or checkpointed.") from error
        if "error" in answer:
            raise (UserError if answer["foreseen"] else RuntimeError)(answer["error"])
        return answer["value"]
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
    """Call ``function`` on every process, and return all results on each, in the order of the processes.

    Args:
      function: returns a small JSON value; files that it writes exist when the processes continue.

    Raises:
      UserError: on all processes, the error of the first process that raised one.
    """
    if count() == 1:
        return [function()]
    key, store = f"dawgen/{next(_turns)}", _joined().client
    try:
        answer = {"value": function()}
    except UserError as error:  # any other error ends this process, and thereby the others
        answer = {"error": str(error)}
    store.key_value_set(f"{key}/{number()}", json.dumps(answer))
    answers = led(lambda: [json.loads(store.blocking_key_value_get(f"{key}/{process}", 10**9))
                           for process in range(count())])
    for answer in answers:
        if "error" in answer:
            raise UserError(answer["error"])
    return [answer["value"] for answer in answers]


def place(array: Any, sharding: Any) -> Any:
    """Make a global array from a host array that every process holds; each places the parts of its devices.

    Args:
      array: a NumPy array, or a JAX array, which is not moved to the host if it already spans processes.
      sharding: target sharding; None is the default device.
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
    """:func:`place` every leaf on devices of several processes; with a single process, ``jax.jit`` places them.

    Args:
      tree: host arrays, and arrays that are already placed.
      shardings: a prefix tree of shardings.
    """
    import jax

    if count() == 1:
        return tree
    return jax.tree.map(lambda sharding, part: jax.tree.map(lambda leaf: place(leaf, sharding), part), shardings, tree)


def host(tree: Any) -> Any:
    """A tree of complete NumPy arrays; all processes must call it if the arrays are sharded over processes."""
    import jax
    from jax.experimental import multihost_utils

    def fetch(leaf):
        if isinstance(leaf, jax.Array) and not (leaf.is_fully_addressable or leaf.is_fully_replicated):
            return multihost_utils.process_allgather(leaf, tiled=True)
        return leaf

    return jax.device_get(jax.tree.map(fetch, tree))


class Stopped(SystemExit):
    """Exit of a program that was asked to stop and has saved its progress, with the configured exit status."""

    def __init__(self):
        super().__init__(_state["stopped_status"])


@contextlib.contextmanager
def listening() -> Iterator[None]:
    """While active, a request to stop takes effect only when the program calls :func:`stopping`."""
    _state["listening"] = True
    try:
        yield
    finally:
        _state["listening"] = False


def listens() -> bool:
    """Whether a program that is asked to stop will exit by itself after saving its progress."""
    return _state["listening"]


def tell_to_stop() -> bool:
    """Ask a single-process program to stop, and return whether it listens. (JAX handles the signal for several.)"""
    _state["stop"] = listens()
    return listens()


def stopping() -> bool:
    """Whether any process was asked to stop by SIGTERM; the same on all processes at the same call.

    All processes must call it equally often.
    """
    if count() > 1 and not _state["stop"]:
        from jax.experimental import multihost_utils

        _state["stop"] = multihost_utils.reached_preemption_sync_point(next(_steps))
    return _state["stop"]
