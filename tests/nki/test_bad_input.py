"""Bad input: one clear error at the kernel's line, and the process goes on as before."""

from __future__ import annotations

import math
import time

import numpy as np
import pytest

from rainshadow.errors import CapacityError, InputError, NkiValidationError, RainshadowError
from rainshadow.nki import Shape, jit, record, simulate
from rainshadow.nki import isa as nisa
from rainshadow.nki import language as nl
from rainshadow.sim.options import SimOptions

X = np.ones((128, 64), np.float32)
NOT_INTEGERS = (math.nan, math.inf, 1.5, "a", [1], np.ones(3))


def double(x):
    tile = nl.ndarray(x.shape, x.dtype)
    result = nl.ndarray(x.shape, x.dtype, buffer=nl.shared_hbm)
    nisa.dma_copy(tile, x)
    nisa.tensor_scalar(tile, tile, nl.multiply, 2.0)
    nisa.dma_copy(result, tile)
    return result


@pytest.fixture(autouse=True)
def the_process_stays_usable():
    yield
    assert (simulate(double)(X) == 2).all()


def refused(body, *, kind=NkiValidationError, match=None):
    """The error of a kernel, which must name a line of this file."""
    with pytest.raises(kind, match=match) as caught:
        simulate(jit(body))(X)
    assert caught.value.where.file == __file__
    return caught.value


# -- kernels that never end ----------------------------------------------------------------------


def issues_for_ever(x):
    tile = nl.ndarray((128, 64), nl.float32)
    while True:
        nisa.memset(tile, 0.0)


def allocates_for_ever(x):
    while True:
        nl.ndarray((128, 64), nl.float32)


def waits_for_a_register(x):
    nl.while_loop(nisa.register_alloc(1), lambda condition: condition)


def loops_ten_to_the_thirty_times(x):
    for _ in nl.affine_range(10**30):
        pass


@pytest.mark.parametrize(
    "kernel",
    [issues_for_ever, allocates_for_ever, waits_for_a_register, loops_ten_to_the_thirty_times],
)
@pytest.mark.parametrize("data", ["full", "none"])
def test_a_kernel_that_never_ends_is_stopped(kernel, data):
    options = SimOptions(max_instructions=500, data=data)
    x = X if data == "full" else Shape(X.shape, "float32")
    with pytest.raises(InputError, match=r"instructions|allocations|iterations") as caught:
        record(kernel, (x,), options=options)
    assert caught.value.where.file == __file__


def turns_without_an_instruction(x):
    while True:
        pass


def waits_in_a_helper(x):
    tile = nl.ndarray((128, 64), nl.float32)
    nisa.memset(tile, 0.0)
    while True:
        sorted(range(10))


@pytest.mark.parametrize("kernel", [turns_without_an_instruction, waits_in_a_helper])
@pytest.mark.parametrize("ranks", [1, 2])
def test_python_that_never_ends_is_stopped_at_its_line(kernel, ranks):
    options = SimOptions(max_idle_s=0.2)
    with pytest.raises(InputError, match=r"0.2 s without an instruction") as caught:
        simulate(kernel, ranks=ranks, options=options)(X)
    assert caught.value.where.file == __file__


def test_a_kernel_that_waits_as_for_a_debugger_is_left_alone():
    def waits(x):
        time.sleep(0.8)

    simulate(waits, options=SimOptions(max_idle_s=0.2))(X)


def test_a_kernel_that_goes_on_with_instructions_is_left_alone():
    def works(x):
        tile = nl.ndarray((128, 64), nl.float32)
        end = time.monotonic() + 0.5
        while time.monotonic() < end:
            nisa.memset(tile, 0.0)

    simulate(works, options=SimOptions(max_idle_s=0.2))(X)


def calls_itself(x):
    return calls_itself(x)


@jit
def calls_its_kernel(x):
    nl.ndarray((128, 64), nl.float32)
    return calls_its_kernel(x)


@pytest.mark.parametrize("kernel", [calls_itself, calls_its_kernel])
def test_recursion_is_named(kernel):
    with pytest.raises(InputError, match="calls itself without end") as caught:
        simulate(kernel)(X)
    assert caught.value.where.file == __file__


# -- shapes, indices, addresses, registers ---------------------------------------------------------


USES = {
    "extent": lambda x, v: nl.ndarray((128, v), nl.float32),
    "byte": lambda x, v: nl.ndarray((128, 1), nl.float32, address=(0, v)),
    "address": lambda x, v: nl.ndarray((128, 1), nl.float32, address=v),
    "start": lambda x, v: x[nl.ds(v, 4)],
    "size": lambda x, v: x[nl.ds(0, v)],
    "index": lambda x, v: x[v],
    "slice start": lambda x, v: x[v:4],
    "slice end": lambda x, v: x[0:v],
    "slice step": lambda x, v: x[0:4:v],
    "ap offset": lambda x, v: x.ap([[64, 4], [1, 4]], offset=v),
    "ap stride": lambda x, v: x.ap([[v, 4], [1, 4]]),
    "ap count": lambda x, v: x.ap([[64, 4], [1, v]]),
    "ap pattern": lambda x, v: x.ap(v),
    "loop": lambda x, v: nl.affine_range(v),
    "loop end": lambda x, v: nl.sequential_range(0, v),
    "dynamic loop": lambda x, v: nl.fori_loop(0, v, lambda i: None),
    "register": lambda x, v: nisa.register_move(nisa.register_alloc(0), v),
    "new register": lambda x, v: nisa.register_alloc(v),
}
TAKE_NONE = {"address", "slice start", "slice end", "slice step", "ap offset", "loop end",
             "new register"}  # fmt: skip


@pytest.mark.parametrize("value", [*NOT_INTEGERS, None], ids=repr)
@pytest.mark.parametrize("use", USES)
def test_what_is_no_integer_is_refused(use, value):
    if value is not None or use not in TAKE_NONE:
        refused(lambda x: USES[use](x, value))


@pytest.mark.parametrize("shape", [(10**30, 1), (128, 10**12), (2**62, 2**62), (0, 1), (-1, 2), ()])
@pytest.mark.parametrize("buffer", [nl.sbuf, nl.psum, nl.shared_hbm])
def test_absurd_shapes_are_refused(shape, buffer):
    refused(lambda x: nl.ndarray(shape, nl.float32, buffer=buffer) and None)


@pytest.mark.parametrize("dtype", ["float33", None, 3, object, np.complex64])
def test_absurd_dtypes_are_refused(dtype):
    refused(lambda x: nl.ndarray((128, 1), dtype) and None, match="unknown dtype")


@pytest.mark.parametrize("buffer", ["hbm2", None, 3])
def test_absurd_memories_are_refused(buffer):
    refused(lambda x: nl.ndarray((128, 1), nl.float32, buffer=buffer) and None, match="buffer is")


@pytest.mark.parametrize("address", [(0, -1), (0, 10**30), (1, 0), (-1, 0)])
def test_addresses_outside_the_memory_are_refused(address):
    tall = (128, 1)
    refused(lambda x: nl.ndarray(tall, nl.float32, address=address) and None, kind=CapacityError)


@pytest.mark.parametrize("value", [2**32, -(2**31) - 1, 10**30])
def test_registers_hold_32_bits(value):
    refused(lambda x: nisa.register_alloc(value), match="in a register")


def test_a_register_outside_a_tensor_is_refused():
    refused(lambda x: x[nl.ds(nisa.register_alloc(2**31), 4)], match="elements from 2147483648")


# -- arguments -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "array",
    [
        np.ones((2, 2), np.complex64),
        np.array(["a"]),
        np.array([object()]),
        np.array(["2020"], "M8[D]"),
        np.zeros(2, [("a", int)]),
        np.ones((0, 3)),
    ],
    ids=lambda array: str(array.dtype),
)
def test_arrays_that_a_chip_can_not_hold_are_named(array):
    with pytest.raises(NkiValidationError, match="argument x"):
        simulate(double)(array)


@pytest.mark.parametrize(
    "value", [None, "text", {1: 2}, object(), np.float32(3)], ids=lambda value: type(value).__name__
)
def test_what_is_no_array_is_refused_where_it_is_used(value):
    with pytest.raises(NkiValidationError) as caught:
        simulate(jit(lambda x: nisa.dma_copy(nl.ndarray((4, 4), nl.float32), x)))(value)
    assert caught.value.where.file == __file__


@pytest.mark.parametrize("args, kwargs", [((), {}), ((X, X), {}), ((X,), {"y": X})])
def test_arguments_must_be_those_of_the_kernel(args, kwargs):
    with pytest.raises(InputError, match=r"double\(x\)"):
        simulate(double)(*args, **kwargs)


@pytest.mark.parametrize("grid", [0, -1, 3, 2.5, "a", (2, 2), 10**9])
def test_cores_that_there_are_not_are_refused(grid):
    with pytest.raises(InputError, match="allowed: kernel"):
        simulate(jit(double)[grid])(X)


# -- two cores that wait for each other ------------------------------------------------------------


def lonely_barrier(x):
    shared = nl.ndarray((128, 64), nl.float32, buffer=nl.shared_hbm)
    if nl.program_id(0) == 0:
        nisa.core_barrier(shared, (0, 1))


def unanswered_message(x):
    tile = nl.ndarray((128, 64), nl.float32)
    nisa.memset(tile, 0.0)
    if nl.program_id(0) == 1:
        nisa.sendrecv(tile, tile, send_to_rank=0, recv_from_rank=0, pipe_id=0)


@pytest.mark.parametrize(
    "kernel, waiting, other",
    [(lonely_barrier, "core 0", "core 1"), (unanswered_message, "core 1", "core 0")],
)
def test_a_deadlock_names_who_waits_for_whom(kernel, waiting, other):
    error = refused_on_two(kernel)
    assert f"{waiting} waits for {other}" in error.what and f"{other} has ended" in error.what


def refused_on_two(kernel) -> RainshadowError:
    with pytest.raises(NkiValidationError) as caught:
        simulate(jit(kernel)[2])(X)
    assert caught.value.where.file == __file__
    return caught.value
