"""Knows what torch.distributed and its wrappers do in a job of one process, on one core.

Every collective is a copy, DataParallel and DistributedDataParallel call their module. More
processes are refused: data parallelism over chips is the layout's business.
"""

from __future__ import annotations

import functools
import importlib
import os
import sys
from collections.abc import Sequence
from typing import Any

import torch
import torch.distributed as dist
from torch.futures import Future
from torch.nn.parallel import DistributedDataParallel

from rainshadow.errors import NotModelled
from rainshadow.porting.patches import Patches
from rainshadow.porting.ties import TieLog, user_line

#: Name under which torch.distributed knows the group.
BACKEND = "rainshadow_one_process"


def install_one_process(patches: Patches, log: TieLog) -> None:
    """Replace the wrappers and the start of a process group."""
    _install_data_parallel(patches, log)
    _install_wrapper(patches, log)
    _install_group(patches, log)


def _install_data_parallel(patches: Patches, log: TieLog) -> None:
    parallel: Any = importlib.import_module("torch.nn.parallel.data_parallel")
    patches.set(parallel, "_get_available_device_type", lambda: None)
    made = parallel.DataParallel.__init__

    @functools.wraps(made)
    def data_parallel_made(module: Any, *args: Any, **kwargs: Any) -> None:
        log.met("torch.nn.DataParallel")
        made(module, *args, **kwargs)

    patches.set(parallel.DataParallel, "__init__", data_parallel_made)


def _install_wrapper(patches: Patches, log: TieLog) -> None:
    """DistributedDataParallel without its reducer, which would only copy gradients to and fro."""
    wrapper: Any = DistributedDataParallel

    @functools.wraps(wrapper.__init__)
    def made(self: Any, module: Any, *args: Any, **kwargs: Any) -> None:
        log.met("torch.nn.parallel.DistributedDataParallel")
        torch.nn.Module.__init__(self)
        self.module = module
        self.process_group = kwargs.get("process_group")
        self.require_backward_grad_sync = True

    @functools.wraps(wrapper.forward)
    def forward(self: Any, *args: Any, **kwargs: Any) -> Any:
        return self.module(*args, **kwargs)

    patches.set(wrapper, "__init__", made)
    patches.set(wrapper, "forward", forward)
    for hook in ("register_comm_hook", "_set_static_graph", "_register_builtin_comm_hook"):
        patches.set(wrapper, hook, _nothing)


def _nothing(*args: Any, **kwargs: Any) -> None: ...


def _install_group(patches: Patches, log: TieLog) -> None:
    original = dist.init_process_group

    @functools.wraps(original)
    def init_process_group(backend: Any = None, init_method: Any = None, **kwargs: Any) -> Any:
        log.met("torch.distributed.init_process_group")
        processes = int(kwargs.get("world_size", os.environ.get("WORLD_SIZE", 1)))
        if processes > 1:
            raise NotModelled(
                f"torch.distributed with {processes} processes",
                allowed="a script that runs as one process",
                where=user_line(sys._getframe(1)),
                fix="run the single-process form of the script: the report lays its step "
                "out over a chip, an instance and a cluster by data parallelism",
            )
        _register_backend()
        # Nobody to meet: a store in memory needs no address and no port.
        original(BACKEND, store=dist.HashStore(), rank=0, world_size=1)

    patches.set(dist, "init_process_group", init_process_group)


def _register_backend() -> None:
    """Make `BACKEND` a backend of torch.distributed, once."""
    if BACKEND not in dist.Backend.backend_list:
        dist.Backend.register_backend(
            BACKEND, _make, extended_api=True, devices=["cpu", "rainshadow"]
        )


def _make(options: Any, backend_options: Any) -> GroupOfOne:
    return GroupOfOne(options.group_rank, options.group_size)


def _done(result: Any = None) -> Any:
    """A finished piece of work."""
    future: Future[Any] = Future()
    future.set_result(result)
    return torch._C._distributed_c10d._create_work_from_future(future)


def _copy(outputs: Sequence[torch.Tensor], inputs: Sequence[torch.Tensor]) -> Any:
    with torch.no_grad():
        for output, source in zip(outputs, inputs, strict=True):
            if output.data_ptr() != source.data_ptr():
                output.copy_(source.view(output.shape))
    return _done(list(outputs))


class GroupOfOne(dist.ProcessGroup):
    """A process group with one member. Sums, maxima and averages of one value are that value."""

    def __init__(self, rank: int, size: int) -> None:
        super().__init__(rank, size)

    def getBackendName(self) -> str:
        return BACKEND

    def allreduce(self, tensors: Any, opts: Any = None) -> Any:
        return _done(tensors)

    allreduce_coalesced = reduce = broadcast = allreduce

    def barrier(self, opts: Any = None) -> Any:
        return _done()

    def allgather(self, outputs: Any, inputs: Any, opts: Any = None) -> Any:
        return _copy([output[0] for output in outputs], inputs)

    gather = allgather

    def scatter(self, outputs: Any, inputs: Any, opts: Any = None) -> Any:
        return _copy(outputs, [given[0] for given in inputs])

    reduce_scatter = scatter

    def alltoall(self, outputs: Any, inputs: Any, opts: Any = None) -> Any:
        return _copy(outputs, inputs)

    def all_gather_single(self, output: Any, source: Any, opts: Any = None) -> Any:
        return _copy([output], [source])

    reduce_scatter_single = _allgather_base = _reduce_scatter_base = all_gather_single

    def all_gather_single_coalesced(self, outputs: Any, inputs: Any, opts: Any = None) -> Any:
        return _copy(outputs, inputs)

    reduce_scatter_single_coalesced = allgather_into_tensor_coalesced = (
        reduce_scatter_tensor_coalesced
    ) = all_gather_single_coalesced

    def all_to_all_single(
        self, output: Any, source: Any, output_sizes: Any, input_sizes: Any, opts: Any = None
    ) -> Any:
        return _copy([output], [source])

    alltoall_base = all_to_all_single
