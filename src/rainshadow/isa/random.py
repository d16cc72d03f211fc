"""Knows the engines' random number generators: one stream of 32-bit words per compute lane.

GpSimdE (from NeuronCore-v3 on) and VectorE of v4 hold XORWOW states of six words, VectorE four of
them per lane to give four words a cycle (AWS Neuron docs 2.32, nki.isa.rand_set_state and the
Trainium 3 guide); the algorithm is G. Marsaglia, "Xorshift RNGs", Journal of Statistical Software
8(14), 2003. VectorE before v4 has a linear feedback shift register whose taps AWS does not publish:
here it is the same paper's 32-bit xorshift (13, 17, 5), which is one. How one seed becomes the
lanes' states is not published either: docs/numerics.md.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from rainshadow.isa.engine import Engine

Array = np.ndarray[Any, Any]

#: Words of one XORWOW state: x, y, z, w, v and the counter d.
XORWOW_WORDS = 6
_COUNTER_STEP = np.uint32(362437)
#: Spreads seeds over the lanes: the 32-bit finaliser of MurmurHash3 (A. Appleby, public domain).
_MIX_1, _MIX_2, _GOLDEN = np.uint32(0x85EBCA6B), np.uint32(0xC2B2AE35), np.uint32(0x9E3779B9)


def _mixed(values: Array) -> Array:
    x = values.astype(np.uint32)
    x ^= x >> np.uint32(16)
    x *= _MIX_1
    x ^= x >> np.uint32(13)
    x *= _MIX_2
    x ^= x >> np.uint32(16)
    return x


def seeded_words(seed: int, lanes: int, words: int) -> Array:
    """[lanes, words] of uint32, none of them 0, all different for different seeds and lanes."""
    with np.errstate(over="ignore"):
        index = np.arange(lanes * words, dtype=np.uint32) * _GOLDEN
        return (_mixed(index + np.uint32(seed & 0xFFFFFFFF)) | np.uint32(1)).reshape(lanes, words)


class Xorshift:
    """One 32-bit xorshift register per lane."""

    def __init__(self, lanes: int) -> None:
        self.state = np.empty((lanes, 1), dtype=np.uint32)
        self.seed(0)

    def seed(self, seed: int) -> None:
        """Every lane's register from one 32-bit seed."""
        self.state[...] = seeded_words(seed, len(self.state), 1)

    def draw(self, partitions: int, count: int) -> Array:
        """[partitions, count] words of uint32."""
        state = self.state[:partitions, 0]
        result = np.empty((partitions, count), dtype=np.uint32)
        for i in range(count):
            state ^= state << np.uint32(13)
            state ^= state >> np.uint32(17)
            state ^= state << np.uint32(5)
            result[:, i] = state
        return result


class Xorwow:
    """`streams` XORWOW generators per lane, drawn from in turn."""

    def __init__(self, lanes: int, streams: int) -> None:
        self.state = np.empty((lanes, streams, XORWOW_WORDS), dtype=np.uint32)
        self.seed(0)

    def seed(self, seed: int) -> None:
        """Every state from one 32-bit seed."""
        lanes, streams, words = self.state.shape
        self.state[...] = seeded_words(seed, lanes, streams * words).reshape(self.state.shape)

    @property
    def words(self) -> int:
        """Words of all the states of a lane."""
        return self.state.shape[1] * self.state.shape[2]

    def set(self, words: Array) -> None:
        """The states of the first lanes: [partitions, words]."""
        self.state[: len(words)] = words.reshape(len(words), *self.state.shape[1:])

    def get(self, partitions: int) -> Array:
        """[partitions, words]."""
        return self.state[:partitions].reshape(partitions, -1)

    def draw(self, partitions: int, count: int) -> Array:
        """[partitions, count] words of uint32."""
        state = self.state[:partitions]
        streams = state.shape[1]
        rounds = -(-count // streams)
        result = np.empty((partitions, rounds, streams), dtype=np.uint32)
        with np.errstate(over="ignore"):
            for i in range(rounds):
                result[:, i] = _step(state)
        return result.reshape(partitions, rounds * streams)[:, :count]


def _step(state: Array) -> Array:
    """Advance every state of [..., 6] and return its next word."""
    x, v = state[..., 0].copy(), state[..., 4].copy()
    x ^= x >> np.uint32(2)
    state[..., 0:4] = state[..., 1:5].copy()
    state[..., 4] = (v ^ (v << np.uint32(4))) ^ (x ^ (x << np.uint32(1)))
    state[..., 5] += _COUNTER_STEP
    return state[..., 4] + state[..., 5]  # type: ignore[no-any-return]


class Generators:
    """The generators of one core. vector, gpsimd: by engine."""

    def __init__(self, generation: str, lanes: int, seed: int) -> None:
        self.vector: Any = Xorwow(lanes, 4) if generation == "gen4" else Xorshift(lanes)
        self.gpsimd = Xorwow(lanes, 1)
        self.vector.seed(seed)
        self.gpsimd.seed(seed)

    def of(self, engine: Engine) -> Any:
        """VectorE's or GpSimdE's."""
        return self.vector if engine is Engine.vector else self.gpsimd


def uniform(words: Array) -> Array:
    """Words as float32 in [0, 1): the upper 24 bits, all that a float32 can tell apart."""
    return (words >> np.uint32(8)).astype(np.float32) * np.float32(2.0**-24)
