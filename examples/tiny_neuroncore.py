"""A NeuronCore in miniature: five instructions, two engines, semaphores, a timeline.

It is the idea of Rainshadow on one page, with NumPy only. A program is a list of instructions.
Each engine runs its own instructions in order and knows nothing of the other engine; only
semaphores make one wait for the other. An instruction reads its operands when it starts and writes
its result when it ends, so a forgotten semaphore gives a wrong answer here as it would there.

    python examples/tiny_neuroncore.py
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

PARTITIONS = 128  # rows of SBUF and PSUM
PSUM_BANK_COLUMNS = 512  # float32 columns of one PSUM bank
MIN_CYCLES = 64  # no instruction is shorter
SEMAPHORE_NS = 50.0  # from a signal on one engine to the other's start
# AWS's Trainium 2 architecture guide: TensorE 2.4 GHz, VectorE 0.96 GHz, one column per cycle;
# float32 goes through the tensor engine in four passes.
CLOCK_GHZ = {"tensor": 2.4, "vector": 0.96}
FP32_PASSES = 4


@dataclass(frozen=True)
class Opcode:
    """engine: who executes it.  meaning: the definition.  passes: cycles per column."""

    engine: str
    meaning: Callable[..., np.ndarray]
    passes: int = 1


#: matmul contracts axis 0, the partitions, of both operands.
OPCODES = {
    "matmul": Opcode("tensor", lambda stationary, moving: stationary.T @ moving, FP32_PASSES),
    "transpose": Opcode("tensor", lambda source: source.T.copy(), FP32_PASSES),
    "copy": Opcode("vector", lambda source: source.copy()),
    "add": Opcode("vector", lambda a, b: a + b),
    "relu": Opcode("vector", lambda source: np.maximum(source, 0.0)),
}


@dataclass(frozen=True)
class Instruction:
    """out, inputs: names of tiles.  wait: semaphore -> count it must have reached.
    signal: semaphore that counts one up when the result is written.
    """

    opcode: str
    out: str
    inputs: tuple[str, ...]
    wait: tuple[tuple[str, int], ...] = ()
    signal: str = ""


@dataclass(frozen=True)
class Event:
    """One executed instruction on the timeline."""

    instruction: Instruction
    start_ns: float
    end_ns: float
    waited_ns: float


def duration_ns(instruction: Instruction, tiles: dict[str, np.ndarray]) -> float:
    """Columns of the last operand, one per cycle and pass."""
    opcode = OPCODES[instruction.opcode]
    columns = tiles[instruction.inputs[-1]].shape[1]
    return max(MIN_CYCLES, columns) * opcode.passes / CLOCK_GHZ[opcode.engine]


def check(instruction: Instruction, tiles: dict[str, np.ndarray]) -> None:
    """The hardware's limits; ValueError says which one and what to do."""
    for name in (instruction.out, *instruction.inputs):
        rows, columns = tiles[name].shape
        if rows > PARTITIONS:
            raise ValueError(f"{name} has {rows} partitions, allowed {PARTITIONS}: tile axis 0")
        if name.startswith("psum") and columns > PSUM_BANK_COLUMNS:
            raise ValueError(f"{name}: {columns} columns, a PSUM bank has {PSUM_BANK_COLUMNS}")


def run(program: Sequence[Instruction], tiles: dict[str, np.ndarray]) -> list[Event]:
    """Execute `program` on `tiles`, changing them; events in order of their start.

    Errors: ValueError for a broken rule, RuntimeError if every engine waits for ever.
    """
    queues = {name: [i for i in program if OPCODES[i.opcode].engine == name] for name in CLOCK_GHZ}
    free_ns = dict.fromkeys(CLOCK_GHZ, 0.0)
    signals: dict[str, list[float]] = {}  # when each count of a semaphore is seen
    writing: list[tuple[float, str, np.ndarray]] = []  # results that are on their way
    events: list[Event] = []
    while any(queues.values()):
        ready = []
        for name, queue in queues.items():
            if queue and all(len(signals.get(s, ())) >= count for s, count in queue[0].wait):
                seen = [signals[s][count - 1] for s, count in queue[0].wait if count]
                ready.append((max([free_ns[name], *seen]), name))
        if not ready:
            stuck = {name: queue[0].wait for name, queue in queues.items() if queue}
            raise RuntimeError(f"deadlock, engines wait for {stuck}")
        start, engine = min(ready)
        instruction = queues[engine].pop(0)
        check(instruction, tiles)
        for entry in sorted((e for e in writing if e[0] <= start), key=lambda e: e[0]):
            tiles[entry[1]][...] = entry[2]
            writing.remove(entry)
        end = start + duration_ns(instruction, tiles)
        value = OPCODES[instruction.opcode].meaning(*(tiles[name] for name in instruction.inputs))
        writing.append((end, instruction.out, value))
        events.append(Event(instruction, start, end, start - free_ns[engine]))
        free_ns[engine] = end
        if instruction.signal:
            signals.setdefault(instruction.signal, []).append(end + SEMAPHORE_NS)
    for _, name, value in sorted(writing, key=lambda entry: entry[0]):
        tiles[name][...] = value
    return events


def draw(events: Sequence[Event], width: int = 72) -> str:
    """One line per engine: the first letter of each opcode, dots while it waits."""
    total = max(event.end_ns for event in events)
    lines = []
    for engine in CLOCK_GHZ:
        line = ["."] * width
        for event in events:
            if OPCODES[event.instruction.opcode].engine == engine:
                first = int(event.start_ns / total * width)
                last = max(first + 1, int(event.end_ns / total * width))
                line[first:last] = event.instruction.opcode[0] * (last - first)
        lines.append(f"{engine:>7} |{''.join(line)[:width]}|")
    return "\n".join([*lines, f"{'':>7}  0 ns{total:>{width - 5}.0f} ns"])


def layer_program(blocks: int, banks: int) -> list[Instruction]:
    """y_i = relu(w.T @ x_i + b): the matmul of a block overlaps the additions of the one before.

    `banks` PSUM banks take turns; a matmul waits until its bank has been read.
    """
    program = []
    for i in range(blocks):
        bank = f"psum_{i % banks}"
        freed = (("read", i - banks + 1),) if i >= banks else ()
        program += [
            Instruction("matmul", bank, ("w", f"x_{i}"), wait=freed, signal="product"),
            Instruction("add", f"y_{i}", (bank, "b"), wait=(("product", i + 1),), signal="read"),
            Instruction("relu", f"y_{i}", (f"y_{i}",)),
        ]
    return program


def layer_tiles(blocks: int, banks: int, seed: int = 0) -> dict[str, np.ndarray]:
    """Random operands; what is to be written starts as NaN, as forgotten writes should show."""
    rng = np.random.default_rng(seed)
    tiles = {"w": rng.standard_normal((128, 64)), "b": rng.standard_normal((64, 512))}
    for i in range(blocks):
        tiles[f"x_{i}"] = rng.standard_normal((128, 512))
        tiles[f"y_{i}"] = np.full((64, 512), np.nan)
    for i in range(banks):
        tiles[f"psum_{i}"] = np.full((64, 512), np.nan)
    return tiles


def is_right(tiles: dict[str, np.ndarray], blocks: int) -> bool:
    """Compare with NumPy."""
    w, b = tiles["w"], tiles["b"]
    return all(
        np.allclose(tiles[f"y_{i}"], np.maximum(w.T @ tiles[f"x_{i}"] + b, 0.0))
        for i in range(blocks)
    )


def main() -> None:
    """The same layer with one PSUM bank, with two, and with a semaphore forgotten."""
    blocks = 4
    for banks in (1, 2):
        tiles = layer_tiles(blocks, banks)
        events = run(layer_program(blocks, banks), tiles)
        waited = sum(event.waited_ns for event in events)
        print(f"{banks} PSUM bank(s): right {is_right(tiles, blocks)}, waits {waited:.0f} ns")
        print(draw(events), end="\n\n")
    tiles = layer_tiles(blocks, 2)
    careless = [Instruction(i.opcode, i.out, i.inputs) for i in layer_program(blocks, 2)]
    run(careless, tiles)
    print(f"without semaphores: right {is_right(tiles, blocks)}")


if __name__ == "__main__":
    main()
