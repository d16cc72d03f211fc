"""Virtual registers of the engines' sequencers: integers that bound dynamic loops and offsets.

The kernel's Python runs as it is simulated, so a register has its value at once. Loads and stores
are not timed: AWS publishes no cost. Source: AWS Neuron docs 2.32, nki.isa register functions.
"""

from __future__ import annotations

import operator
from typing import Any

from rainshadow.errors import NkiValidationError
from rainshadow.isa.access import AccessPattern
from rainshadow.isa.integers import shown, whole
from rainshadow.isa.memory import Space
from rainshadow.sim.recorder import active_recorder, inside_kernel

#: What 32 bits hold, signed or not.
_LEAST, _MOST = -(2**31), 2**32 - 1


class VirtualRegister:
    """A 32-bit integer, or nothing yet. It can stand wherever a Python integer can.

    frozen: a loop's own counter, which the kernel may read but not write.
    """

    def __init__(self, state: int | None = None, frozen: bool = False) -> None:
        self._value = None if state is None else _within(state)
        self._frozen = frozen

    @property
    def value(self) -> int:
        """Errors: `NkiValidationError` if nothing was moved or loaded into the register."""
        if self._value is None:
            raise NkiValidationError(
                "a register is read before it has a value",
                fix="give register_alloc a value, or use register_move or register_load first",
            )
        return self._value

    def set(self, value: int) -> None:
        """Give it a value.

        Errors: `NkiValidationError` for a loop's counter, and for more than 32 bits.
        """
        if self._frozen:
            raise NkiValidationError(
                "writing the counter of a dynamic loop",
                allowed="reading it",
                fix="copy it into a register of its own with nisa.register_move",
            )
        self._value = _within(value)

    def __index__(self) -> int:
        return self.value

    __int__ = __index__

    def __bool__(self) -> bool:
        """Whether it is not 0: what `while register:` asks before every turn."""
        if inside_kernel():
            active_recorder().steps.count_turn()
        return self.value != 0

    def __repr__(self) -> str:
        return f"VirtualRegister({'' if self._value is None else self._value})"

    def __format__(self, spec: str) -> str:
        return format(self.value, spec)

    def __eq__(self, other: object) -> bool:
        return self.value == _plain(other)

    def __hash__(self) -> int:
        return id(self)


def _within(value: int) -> int:
    if not _LEAST <= value <= _MOST:
        raise NkiValidationError(
            f"{value} in a register", allowed=f"32 bits: integers from {_LEAST} to {_MOST}"
        )
    return value


def _plain(value: Any) -> Any:
    return value.value if isinstance(value, VirtualRegister) else value


def _binary(name: str, swapped: bool = False) -> Any:
    function = getattr(operator, name)

    def apply(self: VirtualRegister, other: Any) -> Any:
        pair = (_plain(other), self.value) if swapped else (self.value, _plain(other))
        return function(*pair)

    return apply


for _name in ("add", "sub", "mul", "floordiv", "mod", "truediv", "lshift", "rshift"):
    setattr(VirtualRegister, f"__{_name}__", _binary(_name))
    setattr(VirtualRegister, f"__r{_name}__", _binary(_name, swapped=True))
VirtualRegister.__neg__ = lambda register: -register.value  # type: ignore[attr-defined]
for _name in ("lt", "le", "gt", "ge"):
    setattr(VirtualRegister, f"__{_name}__", _binary(_name))


def register_alloc(x: Any = None) -> VirtualRegister:
    """A new register, holding x where one is given: an integer or a tensor of one element."""
    return VirtualRegister(None if x is None else whole(x, "register_alloc: x"))


def register_move(dst: VirtualRegister, src: Any) -> None:
    """dst = an integer, or another register's value."""
    _register(dst, "register_move").set(whole(src, "register_move: src"))


def register_load(dst: VirtualRegister, src: Any) -> None:
    """dst = the value of a tensor of one element, in SBUF or HBM."""
    _outside_psum("register_load: src", src)
    _register(dst, "register_load").set(whole(src, "register_load: src"))


def _outside_psum(what: str, tensor: Any) -> None:
    """Registers reach SBUF and HBM (AWS Neuron docs 2.32, nki.isa.register_load)."""
    if isinstance(tensor, AccessPattern) and tensor.space is Space.psum:
        raise NkiValidationError(
            f"{what} is in psum", allowed="sbuf or hbm", fix="copy it with nisa.tensor_copy first"
        )


def _register(value: Any, function: str) -> VirtualRegister:
    if not isinstance(value, VirtualRegister):
        raise NkiValidationError(
            f"{function}: dst is {shown(value)}", allowed="a register, from nisa.register_alloc"
        )
    return value


def register_store(dst: Any, src: VirtualRegister) -> None:
    """The tensor of one element dst = a register's value."""
    _register(src, "register_store")
    if not isinstance(dst, AccessPattern):
        raise NkiValidationError(f"register_store: dst is {shown(dst)}", allowed="an NKI tensor")
    _outside_psum("register_store: dst", dst)
    if dst.size != 1:
        raise NkiValidationError(
            f"register_store into a tensor of shape {dst.shape}", allowed="a tensor of one element"
        )
    if dst.buffer_.storage is not None:
        dst.array[...] = src.value
