"""The launch grid of the first generation: kernel[4, nl.nc(2) * 3].

Programs of a grid run one after another on a core; `nl.nc(2)` spreads an axis over the two cores
of a logical core. Source: AWS Neuron docs 2.26, nki.language.nc and spmd_dim.
"""

from __future__ import annotations

import itertools
import math
from dataclasses import dataclass
from typing import Any

from rainshadow.errors import InputError


@dataclass(frozen=True, slots=True)
class GridAxis:
    """One axis: factors (programs, on cores), the slowest first."""

    factors: tuple[tuple[int, bool], ...]

    @property
    def programs(self) -> int:
        return math.prod(count for count, _ in self.factors)

    def core_of(self, program: int) -> tuple[int, int]:
        """(core, cores) of a program, as far as this axis decides."""
        core, cores = 0, 1
        for count, on_cores in reversed(self.factors):
            program, digit = divmod(program, count)
            if on_cores:
                core, cores = core + digit * cores, cores * count
        return core, cores

    def __mul__(self, other: Any) -> GridAxis:
        return spmd_dim(self, other)

    def __rmul__(self, other: Any) -> GridAxis:
        return spmd_dim(other, self)


def nc(cores: int) -> GridAxis:
    """An axis of as many programs as cores, one on each."""
    return GridAxis(((int(cores), True),))


def spmd_dim(*factors: Any) -> GridAxis:
    """An axis of several factors: spmd_dim(nl.nc(2), 3) runs programs 0, 1 and 2 on core 0."""
    return GridAxis(tuple(factor for item in factors for factor in _axis(item).factors))


def _axis(item: Any) -> GridAxis:
    if isinstance(item, GridAxis):
        return item
    if not hasattr(item, "__index__") or int(item) < 1:
        raise InputError(f"{item!r} in a launch grid", allowed="1, 2, 3..., or nl.nc(2)")
    return GridAxis(((int(item), False),))


@dataclass(frozen=True, slots=True)
class Grid:
    """A launch grid."""

    axes: tuple[GridAxis, ...] = ()

    @staticmethod
    def of(key: Any) -> Grid:
        """From the brackets of kernel[...]."""
        items = key if isinstance(key, tuple | list) else (key,)
        return Grid(tuple(_axis(item) for item in items))

    @property
    def shape(self) -> tuple[int, ...]:
        """Programs along each axis."""
        return tuple(axis.programs for axis in self.axes)

    @property
    def cores(self) -> int:
        """Cores that the programs run on."""
        return math.prod(axis.core_of(0)[1] for axis in self.axes)

    def programs_on(self, core: int) -> list[tuple[int, ...]]:
        """The programs of a core, in the order in which they run."""
        every = itertools.product(*(range(count) for count in self.shape))
        return [program for program in every if self._core_of(program) == core]

    def _core_of(self, program: tuple[int, ...]) -> int:
        core = 0
        for axis, position in zip(self.axes, program, strict=True):
            own, cores = axis.core_of(position)
            core = core * cores + own
        return core
