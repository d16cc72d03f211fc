"""dst, dst_scale = src as MXFP8 with a scale for every 32 elements, on VectorE of NeuronCore-v4.

Source of rules and numerics: AWS Neuron docs 2.32 nki.isa.quantize_mx; rate from the Trainium 3
guide: 4 elements per lane and cycle. The formats and the scales' places: isa/mx.py.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from rainshadow.errors import NkiValidationError
from rainshadow.isa import mx, rules, values
from rainshadow.isa.access import AccessPattern
from rainshadow.isa.costs import core_of, vector_work
from rainshadow.isa.engine import Engine
from rainshadow.isa.instruction import Instruction, Signature, Work, instruction
from rainshadow.isa.memory import Space
from rainshadow.machine import Chip

_FORMATS = ("float8_e5m2_x4", "float8_e4m3fn_x4")
#: The documented scale is twice the one of the OCP's sample, against saturation of the largest.
HEADROOM = 1


@instruction
@dataclass(slots=True)
class QuantizeMx(Instruction):
    """dst: [P, N / 4] of a packed dtype; src: [P, N] bfloat16 or float16; all in SBUF.

    dst_scale: N / 4 scales in the first 4 rows of each quadrant of 32 partitions.
    """

    opcode = "quantize_mx"
    READS = ("src",)
    WRITES = ("dst", "dst_scale")
    EXAMPLE = "nisa.quantize_mx(dst=packed, src=x, dst_scale=scales)"

    dst: AccessPattern
    src: AccessPattern
    dst_scale: AccessPattern
    engine: Engine = Engine.vector

    def check(self, chip: Chip) -> None:
        operands = {"dst": self.dst, "src": self.src, "dst_scale": self.dst_scale}
        rules.require_generation(self.opcode, chip, "gen4")
        rules.require_tensor(self.opcode, **operands)
        for name, view in operands.items():
            rules.require_space(self.opcode, name, view, Space.sbuf)
        rules.require_dtype(self.opcode, "src", self.src, "bfloat16", "float16")
        rules.require_dtype(self.opcode, "dst", self.dst, *_FORMATS)
        rules.require_dtype(self.opcode, "dst_scale", self.dst_scale, *mx.SCALE_DTYPES)
        rules.require_on_chip(self.opcode, dst=self.dst, src=self.src)
        rules.require_same_partitions(self.opcode, dst=self.dst, src=self.src)
        partitions, elements = self.src.shape[0], self.src.elements
        if partitions % mx.QUADRANT or elements % mx.PACKED:
            raise NkiValidationError(
                f"{self.opcode}: src {self.src.shape}",
                allowed=f"partitions a multiple of {mx.QUADRANT}, elements of {mx.PACKED}",
            )
        words = elements // mx.PACKED
        rules.require_elements(self.opcode, "dst", self.dst, words, words)
        rules.require_scale_rows(self.opcode, "dst_scale", self.dst_scale, self.src)
        rules.require_elements(self.opcode, "dst_scale", self.dst_scale, words, words)

    def meaning(self) -> None:
        partitions = self.src.shape[0]
        data = values.read_f32(self.src).reshape(partitions, -1)
        scales = mx.block_exponents(data, self.dst.dtype, HEADROOM)
        factors = np.repeat(np.repeat(mx.factors(scales), mx.GROUP, 0), mx.PACKED, 1)
        self.dst.array[...] = mx.pack(data / factors, self.dst.dtype).reshape(self.dst.shape)
        target = self.dst_scale.array.view(np.uint8)
        rows = scales.reshape(-1, *target.shape[1:])
        target[mx.scale_rows(partitions)] = rows

    @staticmethod
    def work(signature: Signature, chip: Chip) -> Work:
        return vector_work(
            signature, chip, signature["src"].elements / core_of(chip).vector.quad_rate.value
        )
