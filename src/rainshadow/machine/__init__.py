"""The machine descriptions: typed, frozen views of data/machines, data/systems, data/sites."""

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
    data_faults,
    list_chips,
    list_sites,
    list_systems,
    load_chip,
    load_neuron_chip,
    load_site,
    load_sources,
    load_system,
)
from rainshadow.machine.site import Site
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
    "Site",
    "SyncEngine",
    "System",
    "TensorEngine",
    "VectorEngine",
    "data_faults",
    "list_chips",
    "list_sites",
    "list_systems",
    "load_chip",
    "load_neuron_chip",
    "load_site",
    "load_sources",
    "load_system",
]
