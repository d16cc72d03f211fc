"""Knows the engines of a NeuronCore and their names; how fast each is lives in the machine data.

Source of the names: AWS Neuron docs 2.32, nki.isa `engine` enum.
"""

from __future__ import annotations

from enum import Enum


class Engine(Enum):
    """The six instruction streams of a NeuronCore; values equal AWS's `nki.isa.engine`."""

    unknown = 0
    tensor = 1
    scalar = 2
    gpsimd = 3
    dma = 4
    vector = 5
    sync = 6

    # Members are singletons; identity is the cheapest hash where instructions are told apart.
    __hash__ = object.__hash__


#: The engines that own a timeline track, in the order reports print them.
TRACKED_ENGINES = (
    Engine.tensor,
    Engine.vector,
    Engine.scalar,
    Engine.gpsimd,
    Engine.sync,
    Engine.dma,
)
