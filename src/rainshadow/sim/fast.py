"""Knows faster ways to execute some instructions; each must give what `meaning` gives.

torch's CPU operators run on zero-copy views of the tiles, where torch is loaded anyway: they are
faster than NumPy for functions, reductions and rounding, and no faster for matmuls. An entry
returns False where it does not apply, and the meaning is executed instead.
tests/laws/test_fast_paths.py compares every entry with its meaning; benchmarks/instructions.py
prints the ratios.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping
from functools import cache
from typing import Any

import numpy as np

from rainshadow.isa.access import AccessPattern
from rainshadow.isa.instructions.activation import Activation
from rainshadow.isa.instructions.scalar_tensor_tensor import ScalarTensorTensor
from rainshadow.isa.instructions.tensor_copy import TensorCopy
from rainshadow.isa.instructions.tensor_reduce import TensorReduce
from rainshadow.isa.instructions.tensor_scalar import TensorScalar
from rainshadow.isa.instructions.tensor_tensor import TensorTensor

FastPath = Callable[[Any], bool]

#: dtypes that torch rounds to as the engines do, and the integer type their bits pass through.
_FLOATS = {"float32": None, "float16": None, "bfloat16": np.int16}


def fast_paths() -> Mapping[type, FastPath]:
    """Instruction class -> fast path; empty unless torch is loaded."""
    return _torch_paths() if "torch" in sys.modules else {}


@cache
def _torch_paths() -> Mapping[type, FastPath]:
    import torch

    return {
        TensorTensor: _TensorTensor(torch),
        TensorScalar: _TensorScalar(torch),
        ScalarTensorTensor: _ScalarTensorTensor(torch),
        TensorCopy: _TensorCopy(torch),
        TensorReduce: _TensorReduce(torch),
        Activation: _Activation(torch),
    }


def _floats(*views: Any) -> bool:
    return all(
        not isinstance(view, AccessPattern) or (view.dtype in _FLOATS and view.indirection is None)
        for view in views
    )


class _OnTorch:
    """Views of tiles as torch tensors."""

    def __init__(self, torch: Any) -> None:
        self.torch = torch
        self.operators = {
            "add": torch.add,
            "subtract": torch.sub,
            "multiply": torch.mul,
            "divide": torch.div,
            "maximum": torch.maximum,
            "minimum": torch.minimum,
        }
        self.functions = {
            "exp": self._exp,
            "log": torch.log,
            "sqrt": torch.sqrt,
            "rsqrt": torch.rsqrt,
            "tanh": torch.tanh,
            "sigmoid": torch.sigmoid,
            "erf": torch.erf,
            "gelu": torch.nn.functional.gelu,
            "gelu_apprx_tanh": lambda x: torch.nn.functional.gelu(x, approximate="tanh"),
            "silu": torch.nn.functional.silu,
            "relu": torch.relu,
            "square": torch.square,
            "copy": lambda x: x,
            "identity": lambda x: x,
            "gelu_dx": self._gelu_dx,
        }

    def _exp(self, x: Any) -> Any:
        # torch's own takes up to 70 times as long where results underflow, as masked scores do.
        return self.torch.from_numpy(np.exp(x.numpy()))

    def _gelu_dx(self, x: Any) -> Any:
        density = self._exp(-0.5 * x * x) * 0.3989422804014327
        return 0.5 * (1 + self.torch.erf(x * 0.7071067811865476)) + x * density

    def view(self, pattern: AccessPattern) -> Any:
        """The elements as a torch tensor sharing their memory."""
        tensor = pattern.fast_view
        if tensor is None:
            bits = _FLOATS[pattern.dtype]
            if bits is None:
                tensor = self.torch.from_numpy(pattern.array)
            else:
                tensor = self.torch.from_numpy(pattern.array.view(bits)).view(self.torch.bfloat16)
            pattern.fast_view = tensor
        return tensor

    def read(self, pattern: AccessPattern, shape: tuple[int, ...]) -> Any:
        """The elements in float32 under `shape`."""
        tensor = self.view(pattern)
        if pattern.shape != shape:
            tensor = tensor.reshape(shape)
        return tensor if pattern.dtype == "float32" else tensor.float()

    def operand(self, value: Any, ndim: int) -> Any:
        """A number, or a [P, 1] tile that broadcasts along the free axes."""
        if not isinstance(value, AccessPattern):
            return value
        return self.read(value, (value.shape[0],) + (1,) * (ndim - 1))

    def write(self, pattern: AccessPattern, result: Any) -> bool:
        """Store float32 results with one rounding; False where elements share their memory."""
        if 0 in pattern.strides:
            return False
        if result.shape != pattern.shape:
            result = result.reshape(pattern.shape)
        self.view(pattern).copy_(result)
        return True

    def apply(self, name: str, left: Any, right: Any) -> Any:
        """An ALU operator; numbers may stand on either side."""
        operator = self.operators[name]
        if name in ("maximum", "minimum"):
            left, right = map(self.torch.as_tensor, (left, right))
            return operator(left, right.to(self.torch.float32))
        if not isinstance(left, self.torch.Tensor):
            left = self.torch.tensor(left, dtype=self.torch.float32)
        return operator(left, right)


class _TensorTensor(_OnTorch):
    def __call__(self, instr: TensorTensor) -> bool:
        operator = self.operators.get(instr.op.name)
        dst = instr.dst
        if operator is None or not _floats(dst, instr.data1, instr.data2):
            return False
        left, right = self.read(instr.data1, dst.shape), self.read(instr.data2, dst.shape)
        if dst.dtype == "float32" and 0 not in dst.strides:
            operator(left, right, out=self.view(dst))
            return True
        return self.write(dst, operator(left, right))


class _TensorScalar(_OnTorch):
    def __call__(self, instr: TensorScalar) -> bool:
        names = [instr.op0.name] + ([instr.op1.name] if instr.op1 else [])
        views = (instr.dst, instr.data, instr.operand0, instr.operand1)
        if any(name not in self.operators for name in names) or not _floats(*views):
            return False
        ndim = instr.data.ndim
        result = self.read(instr.data, instr.data.shape)
        first = self.operand(instr.operand0, ndim)
        pair = (first, result) if instr.reverse0 else (result, first)
        result = self.apply(names[0], *pair)
        if instr.op1 is not None:
            second = self.operand(instr.operand1, ndim)
            pair = (second, result) if instr.reverse1 else (result, second)
            result = self.apply(names[1], *pair)
        return self.write(instr.dst, result)


class _ScalarTensorTensor(_OnTorch):
    def __call__(self, instr: ScalarTensorTensor) -> bool:
        known = instr.op0.name in self.operators and instr.op1.name in self.operators
        if not known or not _floats(instr.dst, instr.data, instr.operand0, instr.operand1):
            return False
        data = self.read(instr.data, instr.data.shape)
        first = self.operand(instr.operand0, instr.data.ndim)
        pair = (first, data) if instr.reverse0 else (data, first)
        result = self.apply(instr.op0.name, *pair)
        second = self.read(instr.operand1, instr.data.shape)
        pair = (second, result) if instr.reverse1 else (result, second)
        return self.write(instr.dst, self.apply(instr.op1.name, *pair))


class _TensorCopy(_OnTorch):
    def __call__(self, instr: TensorCopy) -> bool:
        if instr.dst.dtype == instr.src.dtype or not _floats(instr.dst, instr.src):
            return False  # a plain copy is NumPy's as quickly
        return self.write(instr.dst, self.view(instr.src))


class _TensorReduce(_OnTorch):
    def __call__(self, instr: TensorReduce) -> bool:
        if instr.op.name not in ("add", "maximum", "minimum") or not _floats(instr.dst, instr.data):
            return False
        data = self.read(instr.data, instr.data.shape)
        reduce = {"add": data.sum, "maximum": data.amax, "minimum": data.amin}[instr.op.name]
        result = reduce(dim=instr.axis)
        return self.write(instr.dst, -result if instr.negate else result)


class _Activation(_OnTorch):
    def __call__(self, instr: Activation) -> bool:
        function = self.functions.get(instr.op.name)
        views = (instr.dst, instr.data, instr.bias, instr.scale)
        if function is None or not _floats(*views):
            return False
        data = self.read(instr.data, instr.data.shape)
        if not (isinstance(instr.scale, int | float) and instr.scale == 1.0):
            data = data * self.operand(instr.scale, data.ndim)
        if instr.bias is not None:
            data = data + self.operand(instr.bias, data.ndim)
        result = function(data)
        if not self.write(instr.dst, result):
            return False
        instr.reduce(result.numpy())
        return True
