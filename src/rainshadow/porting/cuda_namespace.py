"""Knows what every function of `torch.cuda` answers on a machine whose GPU is a NeuronCore.

PyTorch's own calls of the same functions get PyTorch's own answers, so that nothing inside it
starts to look for a CUDA driver. Who installs and removes the answers is redirect.py's business.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any

import torch

from rainshadow.errors import NotModelled
from rainshadow.porting.patches import Patches
from rainshadow.porting.ties import TieLog, calling_owner


@dataclass(frozen=True, kw_only=True)
class DeviceFacts:
    """What a script may ask about its GPU. memory_bytes: HBM of one core.

    live_bytes, peak_bytes: functions that read the use of it; reset_peak: starts a new peak.
    """

    name: str
    memory_bytes: int
    live_bytes: Callable[[], int] = lambda: 0
    peak_bytes: Callable[[], int] = lambda: 0
    reset_peak: Callable[[], None] = lambda: None


#: Compute capability claimed: scripts test `>= 8` to learn whether bf16 exists.
_CAPABILITY = (8, 0)


class Stream:
    """A stream of a device that keeps one order of work."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        self.device = torch.device("cuda", 0)
        self.cuda_stream = 0

    def synchronize(self) -> None: ...

    def wait_stream(self, stream: Any) -> None: ...

    def wait_event(self, event: Any) -> None: ...

    def query(self) -> bool:
        return True

    def record_event(self, event: Any = None) -> Any:
        event = event or Event()
        event.record(self)
        return event

    def __enter__(self) -> Stream:
        return self

    def __exit__(self, *exception: Any) -> None: ...


class Event:
    """A point in the host's time."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        self._at_s: float | None = None

    def record(self, stream: Any = None) -> None:
        self._at_s = time.perf_counter()

    def synchronize(self) -> None: ...

    def wait(self, stream: Any = None) -> None: ...

    def query(self) -> bool:
        return True

    def elapsed_time(self, end: Event) -> float:
        """Milliseconds of host time."""
        if self._at_s is None or end._at_s is None:
            raise RuntimeError("Both events must be recorded before calculating elapsed time.")
        return (end._at_s - self._at_s) * 1e3


@contextlib.contextmanager
def _no_context(*args: Any, **kwargs: Any) -> Iterator[None]:
    yield


def _nothing(*args: Any, **kwargs: Any) -> None: ...


def _refuse_graph(*args: Any, **kwargs: Any) -> Any:
    raise NotModelled(
        "CUDA graphs have no counterpart on a NeuronCore",
        allowed="torch.compile, whose kernels are launched as one program",
        fix="remove the graph capture, or guard it with the script's own option",
    )


def _queries(facts: DeviceFacts) -> dict[str, Any]:
    properties = SimpleNamespace(
        name=facts.name,
        total_memory=facts.memory_bytes,
        multi_processor_count=1,
        major=_CAPABILITY[0],
        minor=_CAPABILITY[1],
        warp_size=32,
        is_integrated=False,
    )
    return {
        "is_available": lambda: True,
        "is_initialized": lambda: True,
        "init": _nothing,
        "device_count": lambda: 1,
        "current_device": lambda: 0,
        "set_device": _nothing,
        "device": _no_context,
        "device_of": _no_context,
        "get_device_name": lambda device=None: facts.name,
        "get_device_capability": lambda device=None: _CAPABILITY,
        "get_device_properties": lambda device=None: properties,
        "can_device_access_peer": lambda device, peer: False,
        "get_arch_list": list,
        "is_bf16_supported": lambda including_emulation=True: True,
        "is_tf32_supported": lambda: False,
        "synchronize": _nothing,
    }


def _memory(facts: DeviceFacts) -> dict[str, Any]:
    def live(device: Any = None) -> int:
        return facts.live_bytes()

    def peak(device: Any = None) -> int:
        return facts.peak_bytes()

    def stats(device: Any = None) -> dict[str, int]:
        names = ("allocated_bytes", "reserved_bytes", "active_bytes")
        current = {f"{name}.all.current": live() for name in names}
        return current | {f"{name}.all.peak": peak() for name in names}

    def reset(device: Any = None) -> None:
        facts.reset_peak()

    return {
        "memory_allocated": live, "memory_reserved": live, "memory_cached": live,
        "max_memory_allocated": peak, "max_memory_reserved": peak, "max_memory_cached": peak,
        "device_memory_used": live,
        "mem_get_info": lambda device=None: (facts.memory_bytes - live(), facts.memory_bytes),
        "memory_stats": stats,
        "memory_summary": lambda device=None, abbreviated=False: (
            f"{facts.name}: {live():,} bytes of HBM in use, peak {peak():,}"
        ),
        "memory_snapshot": lambda mempool_id=None: [],
        "reset_peak_memory_stats": reset, "reset_max_memory_allocated": reset,
        "reset_max_memory_cached": reset, "reset_accumulated_memory_stats": _nothing,
        "empty_cache": _nothing, "ipc_collect": _nothing,
        "set_per_process_memory_fraction": _nothing,
    }  # fmt: skip


def _order_of_work() -> dict[str, Any]:
    return {
        "Stream": Stream, "ExternalStream": Stream, "Event": Event,
        "stream": _no_context, "set_stream": _nothing,
        "current_stream": lambda device=None: Stream(),
        "default_stream": lambda device=None: Stream(),
        "is_current_stream_capturing": lambda: False,
        "CUDAGraph": _refuse_graph, "graph": _refuse_graph, "graph_pool_handle": _refuse_graph,
        "make_graphed_callables": lambda callables, *args, **kwargs: callables,
    }  # fmt: skip


def _random_numbers() -> dict[str, Any]:
    return {
        "manual_seed": _nothing, "manual_seed_all": _nothing,
        "seed": _nothing, "seed_all": _nothing, "initial_seed": torch.initial_seed,
        "get_rng_state": lambda device="cuda": torch.get_rng_state(),
        "get_rng_state_all": lambda: [torch.get_rng_state()],
        "set_rng_state": _nothing, "set_rng_state_all": _nothing,
    }  # fmt: skip


def answers(facts: DeviceFacts) -> dict[str, Any]:
    """What replaces each attribute of `torch.cuda`, by name relative to it."""
    return {
        **_queries(facts),
        **_memory(facts),
        **_order_of_work(),
        **_random_numbers(),
        "nvtx.range_push": lambda message="": 0,
        "nvtx.range_pop": lambda: 0,
        "nvtx.mark": _nothing,
        "nvtx.range": _no_context,
        "profiler.start": _nothing,
        "profiler.stop": _nothing,
        "profiler.profile": _no_context,
    }


def _watched(api: str, answer: Any, original: Any, log: TieLog) -> Callable[..., Any]:
    """`answer` for everyone but PyTorch itself, noting the tie; `original` for PyTorch."""

    def replacement(*args: Any, **kwargs: Any) -> Any:
        if not torch.compiler.is_compiling():
            if calling_owner() == "torch":
                return original(*args, **kwargs)
            log.met(api)
        return answer(*args, **kwargs)

    replacement.__name__ = api.rpartition(".")[2]
    replacement.__qualname__ = replacement.__name__
    return replacement


def _watched_class(api: str, answer: type, log: TieLog) -> type:
    """A class of the same name whose making notes the tie; isinstance keeps working."""

    def init(self: Any, *args: Any, **kwargs: Any) -> None:
        if not torch.compiler.is_compiling():
            log.met(api)
        answer.__init__(self, *args, **kwargs)

    return type(answer.__name__, (answer,), {"__init__": init})


def install(patches: Patches, facts: DeviceFacts, log: TieLog) -> None:
    """Replace the functions of `torch.cuda` until `patches.restore()`."""
    for name, answer in answers(facts).items():
        module_name, _, attribute = name.rpartition(".")
        module = getattr(torch.cuda, module_name) if module_name else torch.cuda
        api = f"torch.cuda.{name}"
        original = getattr(module, attribute, answer)
        if isinstance(answer, type) and answer is not list:
            patches.set(module, attribute, _watched_class(api, answer, log))
        else:
            patches.set(module, attribute, _watched(api, answer, original, log))
    for owner in (torch.cuda.random, torch.cuda.memory):
        for attribute in vars(owner).copy():
            if attribute in answers(facts) and attribute in vars(torch.cuda):
                patches.set(owner, attribute, getattr(torch.cuda, attribute))
