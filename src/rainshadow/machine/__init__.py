"""The machine descriptions: typed, frozen views of data/machines and data/systems."""

from __future__ import annotations

from rainshadow.machine.chip import (
    Chip,
    DmaEngines,
    GpsimdEngine,
    Hbm,
    Launch,
    NeuronCore,
    Psum,
    Sbuf,
    ScalarEngine,
    SyncEngine,
    TensorEngine,
    VectorEngine,
)
from rainshadow.machine.load import (
    list_chips,
    list_systems,
    load_chip,
    load_sources,
    load_system,
)
from rainshadow.machine.system import Axis, Network, System

__all__ = [
    "Axis",
    "Chip",
    "DmaEngines",
    "GpsimdEngine",
    "Hbm",
    "Launch",
    "Network",
    "NeuronCore",
    "Psum",
    "Sbuf",
    "ScalarEngine",
    "SyncEngine",
    "System",
    "TensorEngine",
    "VectorEngine",
    "list_chips",
    "list_systems",
    "load_chip",
    "load_sources",
    "load_system",
]
