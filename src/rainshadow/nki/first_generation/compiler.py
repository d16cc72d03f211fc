"""The `neuronxcc.nki.compiler` names: where tiles lie, and hints to AWS's compiler.

Hints change nothing here: instructions run in program order, and tiles whose address the kernel
does not give are placed by first and last use.
Source: AWS Neuron docs 2.26, nki.compiler API reference.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from rainshadow.isa.memory import Space
from rainshadow.nki.first_generation.memory import Allocator
from rainshadow.sim.recorder import active_recorder


@dataclass(frozen=True, slots=True)
class Allocation:
    """A `buffer=`: a space, and an address for each block unless Rainshadow places it."""

    space: Space
    allocator: Allocator | None = None


def _modulo(base: int, count: Sequence[int], size: int, block: Sequence[int]) -> int:
    """base + size * the row-major number of `block` within `count` tiles, wrapping round.

    As AWS defines it, axes that only one of the two has count for nothing in `block`.
    """
    number = 0
    for axis, (position, extent) in enumerate(zip(block, count, strict=False)):
        number += position % extent * math.prod(count[axis + 1 :])
    return base + number * size


class sbuf:
    """Allocation in SBUF."""

    @staticmethod
    def alloc(func: Callable[..., tuple[int, int]]) -> Allocation:
        """func(idx, pdim_size, fdim_size) gives (first partition, first byte)."""
        return Allocation(Space.sbuf, func)

    @staticmethod
    def mod_alloc(
        *,
        base_addr: int,
        base_partition: int = 0,
        num_par_tiles: Sequence[int] = (),
        num_free_tiles: Sequence[int] = (),
    ) -> Allocation:
        """Blocks take turns at num_free_tiles (and num_par_tiles) places."""

        def place(idx: tuple[int, ...], pdim_size: int, fdim_size: int) -> tuple[int, int]:
            return (
                _modulo(base_partition, num_par_tiles, pdim_size, idx),
                _modulo(base_addr, num_free_tiles, fdim_size, idx),
            )

        return Allocation(Space.sbuf, place)

    @staticmethod
    def auto_alloc() -> Allocation:
        """Rainshadow places the tensor."""
        return Allocation(Space.sbuf)


class psum:
    """Allocation in PSUM."""

    @staticmethod
    def alloc(func: Callable[..., tuple[int, int, int]]) -> Allocation:
        """func(idx, pdim_size, fdim_size) gives (bank, first partition, first byte of the bank)."""

        def place(**block: Any) -> tuple[int, int]:
            bank, partition, first_byte = func(**block)
            bank_bytes = int(active_recorder().core.psum.bank_bytes_per_partition.value)
            return int(partition), int(bank) * bank_bytes + int(first_byte)

        return Allocation(Space.psum, place)

    @staticmethod
    def mod_alloc(
        *,
        base_bank: int,
        base_addr: int = 0,
        base_partition: int = 0,
        num_bank_tiles: Sequence[int] = (),
        num_par_tiles: Sequence[int] = (),
        num_free_tiles: Sequence[int] = (),
    ) -> Allocation:
        """Blocks take turns at num_bank_tiles banks."""

        def place(idx: tuple[int, ...], pdim_size: int, fdim_size: int) -> tuple[int, int, int]:
            return (
                _modulo(base_bank, num_bank_tiles, 1, idx),
                _modulo(base_partition, num_par_tiles, pdim_size, idx),
                _modulo(base_addr, num_free_tiles, fdim_size, idx),
            )

        return psum.alloc(place)

    @staticmethod
    def auto_alloc() -> Allocation:
        """Rainshadow places the tensor."""
        return Allocation(Space.psum)


def skip_middle_end_transformations(func: Any = None) -> Any:
    """A decorator that changes nothing."""
    return func


def force_auto_alloc(func: Any = None) -> Any:
    """A decorator that changes nothing: addresses that the kernel gives stay."""
    return func


def enable_stack_allocator(func: Any = None, log_level: int = 50) -> Any:
    """A decorator that changes nothing."""
    return functools.partial(enable_stack_allocator, log_level=log_level) if func is None else func


@contextmanager
def no_reorder() -> Iterator[None]:
    """Instructions in program order, as Rainshadow runs them anyway."""
    yield


@contextmanager
def allocation_scope() -> Iterator[None]:
    """Tiles of this block may be placed again after it, as Rainshadow does anyway."""
    yield


def multi_buffer(factor: int = 2) -> None:
    """A loop's `directives=`: how many iterations hold tiles at a time."""
