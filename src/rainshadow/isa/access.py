"""Knows how an instruction addresses memory: (buffer, offset, strides, shape), the access pattern.

Views never copy. The same class is what NKI kernels call `NkiTensor`. Moving data is left to
the instructions.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import count
from typing import Any

import numpy as np

from rainshadow import dtypes
from rainshadow.errors import NeedsData, NkiValidationError, OutOfBoundsError
from rainshadow.isa.indices import (
    COLUMN_AXIS,
    Indirection,
    axis_names,
    explicit,
    indirect_columns,
    picked_rows,
    require_dynamic_offset,
    require_index_tile,
    wide_elements,
    window,
)
from rainshadow.isa.integers import whole, wholes
from rainshadow.isa.memory import Buffer, Space
from rainshadow.isa.no_operators import NoOperators
from rainshadow.isa.strides import comb_of, merge_axes, reshape_strides

#: Numbers of the kinds of operands that this process has seen.
_KINDS: dict[tuple[Any, ...], int] = {}
_NEXT_KIND = count(1)


class AccessPattern(NoOperators):
    """A typed, strided window on one buffer.

    shape, strides: in elements of `dtype`; axis 0 is the partition axis in SBUF and PSUM, where
    its stride is the number of elements one partition holds. offset: first element.
    Errors: `OutOfBoundsError` for windows past the buffer, `NkiValidationError` for views the
    hardware's access patterns can't express.
    """

    __slots__ = (
        "_array",
        "_box",
        "buffer_",
        "dtype",
        "fast_view",
        "indirection",
        "is_explicit",
        "kind_number",
        "offset",
        "offset_from",
        "range_number",
        "range_table",
        "shape",
        "strides",
    )

    def __init__(
        self,
        buffer: Buffer,
        dtype: str,
        shape: tuple[int, ...],
        strides: tuple[int, ...],
        offset: int = 0,
        indirection: Indirection | None = None,
    ) -> None:
        self.buffer_ = buffer
        self.dtype = dtype
        self.shape = shape
        self.strides = strides
        self.offset = offset
        self.indirection = indirection
        self._array: np.ndarray[Any, Any] | None = None
        #: What `kind` answers, 0 until it is asked.
        self.kind_number = 0
        self._box: tuple[int, int, int, int] | None = None
        self.is_explicit = False
        #: A tensor that holds the offset's value, read whenever the pattern is used.
        self.offset_from: AccessPattern | None = None
        #: The same elements as another library's tensor, kept by `sim.fast`.
        self.fast_view: Any = None
        #: The table that has a number for the bytes touched (`sim.range_table`), set with it.
        self.range_table: Any = None
        self.range_number = 0

    # -- description ---------------------------------------------------------------------------

    @property
    def space(self) -> Space:
        return self.buffer_.space

    @property
    def buffer(self) -> Space:
        """The memory region, as AWS's `NkiTensor.buffer` names it."""
        return self.buffer_.space

    @property
    def name(self) -> str:
        return self.buffer_.name

    @property
    def ndim(self) -> int:
        return len(self.shape)

    @property
    def size(self) -> int:
        count = 1
        for extent in self.shape:
            count *= extent
        return count

    @property
    def itemsize(self) -> int:
        return dtypes.itemsize(self.dtype)

    @property
    def partitions(self) -> int:
        """Partitions touched (SBUF, PSUM), or the first axis (HBM)."""
        return self.shape[0]

    @property
    def elements(self) -> int:
        """Elements per partition: the product of the free axes."""
        return self.size // self.shape[0]

    @property
    def start_partition(self) -> int:
        """First partition touched; 0 in HBM."""
        if not self.buffer_.on_chip:
            return 0
        return self.buffer_.start_partition + self.offset // self._partition_stride()

    def kind(self) -> int:
        """Equal for operands that cost and obey the same: space, dtype, shape, strides, start."""
        return self.kind_number or self._number_kind()

    def _number_kind(self) -> int:
        if self.is_explicit:
            self._check_inside()
        if min(self.shape) < 1:
            raise OutOfBoundsError(
                f"a view of shape {self.shape}", allowed="at least 1 element on every axis"
            )
        described = (
            self.buffer_.space,
            self.dtype,
            self.shape,
            self.strides,
            self.start_partition,
            self.indirection and (self.indirection.axis, self.indirection.index.kind()),
        )
        number = _KINDS.get(described)
        self.kind_number = number or _KINDS.setdefault(described, next(_NEXT_KIND))
        return self.kind_number

    def box(self) -> tuple[int, int, int, int]:
        """Physical bounding box: (first partition, end partition, first byte, end byte).

        Bytes are addresses within a partition for SBUF and PSUM and within HBM otherwise. An
        indirect view covers the whole axis that the index may pick from.
        """
        if self._box is None:
            self._box = self._bounding_box()
        return self._box

    def comb(self) -> tuple[int, int]:
        """(period, run) in bytes of the gaps within the box, (0, 0) without regular gaps."""
        first = 1 if self.buffer_.on_chip else 0
        shape, strides = self._reach()
        period, run = comb_of(shape[first:], strides[first:])
        return period * self.itemsize, run * self.itemsize

    def _reach(self) -> tuple[tuple[int, ...], tuple[int, ...]]:
        """Shape and strides of all that may be touched, whatever an index holds."""
        if self.indirection is None:
            return self.shape, self.strides
        axis = self.indirection.axis
        return (
            (*self.shape[:axis], self.indirection.limit, *self.shape[axis + 1 :]),
            (*self.strides[:axis], self.indirection.stride, *self.strides[axis + 1 :]),
        )

    def _partition_stride(self) -> int:
        """Elements of this dtype that one partition of the buffer holds."""
        return max(1, self.buffer_.size_bytes // self.itemsize)

    def _bounding_box(self) -> tuple[int, int, int, int]:
        buffer = self.buffer_
        item = dtypes.itemsize(self.dtype)
        shape, strides = self._reach()
        low = high = 0
        for axis in range(1 if buffer.on_chip else 0, len(shape)):
            reach = (shape[axis] - 1) * strides[axis]
            if reach >= 0:
                high += reach
            else:
                low += reach
        if not buffer.on_chip:
            first = buffer.address + (self.offset + low) * item
            return 0, 1, first, buffer.address + (self.offset + high + 1) * item
        partition, within = divmod(self.offset, buffer.size_bytes // item or 1)
        partition += buffer.start_partition
        first = buffer.address + (within + low) * item
        return partition, partition + shape[0], first, buffer.address + (within + high + 1) * item

    @property
    def array(self) -> np.ndarray[Any, Any]:
        """The elements as a NumPy view of shape `shape`; only where data are simulated."""
        if self._array is None:
            storage = self.buffer_.storage
            assert storage is not None, "this run simulates time only: there are no data to read"
            item, dtype = self.itemsize, dtypes.numpy_dtype(self.dtype)
            if self.buffer_.wide:
                item, dtype = wide_elements(self)
            offset, strides = self.offset * item, [stride * item for stride in self.strides]
            if self.buffer_.partition_bytes:
                offset, *strides = [self._in_shared_storage(n) for n in (offset, *strides)]
            self._array = np.ndarray(self.shape, dtype, storage, offset, tuple(strides))
        return self._array

    def _in_shared_storage(self, distance: int) -> int:
        """A distance in bytes, whose partitions lie further apart in storage than the tile's."""
        partitions, within = divmod(abs(distance), self.buffer_.size_bytes)
        there = partitions * self.buffer_.partition_bytes + within
        return there if distance >= 0 else -there

    def forget(self) -> None:
        """Make the views of the elements anew: the buffer's storage has changed."""
        self._array = None
        self.fast_view = None

    def is_contiguous(self) -> bool:
        """True if the free axes (all axes in HBM) cover memory in row-major order."""
        expected = 1
        first = 1 if self.buffer_.on_chip else 0
        for extent, stride in zip(
            reversed(self.shape[first:]), reversed(self.strides[first:]), strict=True
        ):
            if extent != 1 and stride != expected:
                return False
            expected *= extent
        return True

    def contiguous_run(self) -> int:
        """Elements that follow each other in memory at the inner end of the pattern."""
        run = 1
        first = 1 if self.buffer_.on_chip else 0
        for extent, stride in zip(
            reversed(self.shape[first:]), reversed(self.strides[first:]), strict=True
        ):
            if extent == 1:
                continue
            if stride != run:
                break
            run *= extent
        return run

    def get_pattern(self) -> list[list[int]]:
        """[[stride, count], ...] in the order of `shape`."""
        return [[s, n] for s, n in zip(self.strides, self.shape, strict=True)]

    def is_indirect(self) -> bool:
        """True if a tensor's values say where this view lies."""
        return self.indirection is not None or self.offset_from is not None

    # -- views ---------------------------------------------------------------------------------

    def _with(
        self,
        shape: tuple[int, ...],
        strides: tuple[int, ...],
        offset: int | None = None,
        indirection: Indirection | None = None,
    ) -> AccessPattern:
        picked = self.indirection
        if picked is not None and (
            (shape[0], strides[0]) != (self.shape[0], self.strides[0]) or picked.axis == COLUMN_AXIS
        ):
            raise NkiValidationError(
                f"a window of a view of shape {self.shape} whose positions an index tile picks",
                allowed="windows of other axes than it picks from",
                fix="slice the index tile, or the tensor before its positions are picked",
            )
        result = AccessPattern(
            self.buffer_,
            self.dtype,
            shape,
            strides,
            self.offset if offset is None else offset,
            indirection or picked,
        )
        result.offset_from = self.offset_from
        return result

    def __getitem__(self, key: Any) -> AccessPattern:
        """NumPy-style slices, integers, `...` and `nl.ds`; integers keep the partition axis."""
        shape, strides, offset = window(key, self.shape, self.strides, self.buffer_.on_chip)
        return self._with(shape, strides, self.offset + offset)

    def __setitem__(self, key: Any, value: Any) -> None:
        raise NkiValidationError(
            f"assignment into {self!r}",
            allowed="instructions that write their dst",
            fix="use nisa.tensor_copy(dst=tensor[...], src=value), or nisa.dma_copy in HBM",
        )

    def __iter__(self) -> Iterator[AccessPattern]:
        raise NkiValidationError(
            "iteration over a tensor", fix="loop with nl.affine_range and slice the tensor"
        )

    def _guard_partition(self, axis: int, what: str, extra: int = 0) -> None:
        self._require_axis(axis, what, self.ndim - 1 + extra)
        if axis == 0 and self.buffer_.on_chip:
            raise NkiValidationError(
                f"{what} on axis 0 of a tensor in {self.buffer_.space.value}",
                allowed="free axes only: axis 0 is the partition axis",
            )

    def _require_axis(self, axis: int, what: str, last: int) -> None:
        if not isinstance(axis, int) or not 0 <= axis <= last:
            raise NkiValidationError(
                f"{what} on axis {axis!r} of a tensor of shape {self.shape}", allowed=f"0..{last}"
            )

    def slice(self, dim: int, start: int, end: int, step: int = 1) -> AccessPattern:
        """The window start:end:step of one axis."""
        return self[self._key(dim, slice(start, end, step), "slice")]

    def _key(self, dim: int, index: Any, what: str) -> tuple[Any, ...]:
        self._require_axis(dim, what, self.ndim - 1)
        return (*(slice(None),) * dim, index)

    def select(self, dim: int, index: Any) -> AccessPattern:
        """One position of an axis; the axis disappears (the partition axis stays, with size 1).

        index: a number, or an SBUF tensor of one element that is read when the view is used.
        """
        at = int(index) if isinstance(index, AccessPattern) else index
        view = self[self._key(dim, at, "select")]
        if isinstance(index, AccessPattern):
            self._guard_partition(dim, "dynamic select")
            if self.is_indirect():
                raise NkiValidationError("dynamic select of a dynamic view", allowed="one")
            view.offset_from = index
        return view

    def vector_select(self, dim: int, vector_offset: AccessPattern) -> AccessPattern:
        """Rows `vector_offset[i, 0]` (int32, [P, 1] in SBUF) of axis `dim` of an HBM tensor."""
        if self.is_indirect():
            raise NkiValidationError("vector_select of a dynamic view", allowed="one")
        if self.buffer_.on_chip or dim != 0:
            raise NkiValidationError(
                f"vector_select on axis {dim} of a tensor in {self.buffer_.space.value}",
                allowed="axis 0 of an HBM tensor",
            )
        require_index_tile("vector_select", vector_offset)
        indirection = Indirection(vector_offset, 0, self.strides[0], self.shape[0])
        rows = vector_offset.shape[0] * vector_offset.elements
        shape = (rows, *self.shape[1:])
        return self._with(shape, self.strides, indirection=indirection)

    def permute(self, dims: Sequence[int]) -> AccessPattern:
        """Axes in a new order; the partition axis stays first on chip."""
        if sorted(dims) != list(range(self.ndim)):
            raise NkiValidationError(
                f"permute{tuple(dims)} of {self.ndim} axes", allowed="a permutation of all axes"
            )
        if dims[0] != 0:
            self._guard_partition(0, "permute")
        return self._with(tuple(self.shape[d] for d in dims), tuple(self.strides[d] for d in dims))

    def broadcast(self, dim: int, size: int) -> AccessPattern:
        """Repeat an axis of size 1 `size` times (stride 0)."""
        self._guard_partition(dim, "broadcast")
        if self.shape[dim] != 1 or whole(size, "broadcast: size") < 1:
            raise NkiValidationError(
                f"broadcast of axis {dim}, size {self.shape[dim]}, to {size}",
                allowed="an axis of size 1, to 1 or more",
            )
        before, after = slice(None, dim), slice(dim + 1, None)
        shape = (*self.shape[before], size, *self.shape[after])
        return self._with(shape, (*self.strides[before], 0, *self.strides[after]))

    def broadcast_to(self, shape: Sequence[int]) -> AccessPattern:
        """NumPy broadcasting of size-1 axes to `shape`."""
        view = self
        for dim, size in enumerate(shape):
            if view.shape[dim] != size:
                view = view.broadcast(dim, size)
        return view

    def expand_dim(self, dim: int) -> AccessPattern:
        """A new axis of size 1 at `dim`."""
        self._guard_partition(dim, "expand_dim", 1)
        shape = (*self.shape[:dim], 1, *self.shape[dim:])
        return self._with(shape, (*self.strides[:dim], 0, *self.strides[dim:]))

    def squeeze_dim(self, dim: int) -> AccessPattern:
        """Without the axis `dim` of size 1."""
        self._guard_partition(dim, "squeeze_dim")
        if self.shape[dim] != 1:
            raise NkiValidationError(
                f"squeeze of axis {dim} with size {self.shape[dim]}", allowed="size 1"
            )
        return self._with(
            self.shape[:dim] + self.shape[dim + 1 :], self.strides[:dim] + self.strides[dim + 1 :]
        )

    def reshape_dim(self, dim: int, shape: Sequence[int]) -> AccessPattern:
        """One axis split into several; one of `shape` may be -1."""
        sizes = list(wholes(shape, "reshape_dim: shape"))
        self._key(dim, None, "reshape_dim")
        if len(sizes) > 1:
            self._guard_partition(dim, "reshape_dim")
        if -1 in sizes:
            known = 1
            for size in sizes:
                known *= size if size != -1 else 1
            sizes[sizes.index(-1)] = self.shape[dim] // known if known else -1
        total = 1
        for size in sizes:
            total *= size
        if total != self.shape[dim]:
            raise NkiValidationError(
                f"reshape_dim of axis {dim}, size {self.shape[dim]}, to {tuple(shape)}",
                allowed="sizes whose product is the axis",
            )
        strides: list[int] = []
        stride = self.strides[dim]
        for size in reversed(sizes):
            strides.insert(0, stride)
            stride *= size
        return self._with(
            self.shape[:dim] + tuple(sizes) + self.shape[dim + 1 :],
            self.strides[:dim] + tuple(strides) + self.strides[dim + 1 :],
        )

    def flatten_dims(self, start_dim: int, end_dim: int) -> AccessPattern:
        """Axes start_dim..end_dim merged; they must be contiguous in memory."""
        self._key(start_dim, None, "flatten_dims")
        self._key(end_dim, None, "flatten_dims")
        if end_dim > start_dim:
            self._guard_partition(start_dim, "flatten_dims")
        elif end_dim < start_dim:
            raise NkiValidationError(
                f"flatten_dims({start_dim}, {end_dim})", allowed="end >= start"
            )
        sizes = list(zip(self.shape, self.strides, strict=True))[start_dim : end_dim + 1]
        merged = merge_axes(sizes)
        if len(merged) > 1:
            raise NkiValidationError(
                f"flatten_dims({start_dim}, {end_dim}) of shape {self.shape} with strides "
                f"{self.strides}",
                allowed="axes that follow each other in memory",
                fix="copy the tensor to a contiguous one first",
            )
        extent, stride = merged[0] if merged else (1, 1)
        return self._with(
            (*self.shape[:start_dim], extent, *self.shape[end_dim + 1 :]),
            (*self.strides[:start_dim], stride, *self.strides[end_dim + 1 :]),
        )

    def rearrange(
        self,
        src_pattern: Sequence[Any],
        dst_pattern: Sequence[Any],
        fixed_sizes: dict[str, int] | None = None,
    ) -> AccessPattern:
        """Axes split, reordered and merged by name: a name, or a tuple of names, for each axis."""
        source, target = axis_names(src_pattern), axis_names(dst_pattern)
        names = [name for group in source for name in group]
        wanted = [name for group in target for name in group]
        if len(source) != self.ndim or sorted(names) != sorted(set(wanted)):
            raise NkiValidationError(
                f"rearrange of {self.ndim} axes from {src_pattern} to {dst_pattern}",
                allowed="an entry for each axis, and the same names, each once, on both sides",
            )
        view = self
        for dim in reversed(range(self.ndim)):
            if len(source[dim]) > 1:
                sizes = [(fixed_sizes or {}).get(name, -1) for name in source[dim]]
                view = view.reshape_dim(dim, sizes)
        view = view.permute([names.index(name) for name in wanted])
        for dim, group in enumerate(target):
            view = view.flatten_dims(dim, dim + len(group) - 1) if len(group) > 1 else view
        return view

    def reshape(self, *shape: Any) -> AccessPattern:
        """The same elements under a new shape, without a copy; the partition axis is kept."""
        new = tuple(shape[0]) if len(shape) == 1 and not isinstance(shape[0], int) else shape
        first = 1 if self.buffer_.on_chip else 0
        if -1 in new:
            known = 1
            for extent in new:
                known *= extent if extent != -1 else 1
            new = tuple(self.size // known if extent == -1 else extent for extent in new)
        if first and new[0] != self.shape[0]:
            self._guard_partition(0, f"reshape {self.shape} -> {new}")
        strides = reshape_strides(self.shape[first:], self.strides[first:], new[first:])
        if strides is None:
            raise NkiValidationError(
                f"reshape of {self.shape} (strides {self.strides}) to {new}",
                allowed="the same number of elements in an order the strides can express",
                fix="copy the tensor to a contiguous one first",
            )
        return self._with(new, self.strides[:first] + strides)

    def ap(
        self,
        pattern: Sequence[Sequence[int]],
        offset: int | None = None,
        scalar_offset: Any = None,
        vector_offset: AccessPattern | None = None,
        indirect_dim: int = 0,
        dtype: str | None = None,
    ) -> AccessPattern:
        """An explicit [[stride, count], ...] pattern over the buffer, in elements of `dtype`."""
        old, new = self.itemsize, dtypes.itemsize(dtype or self.dtype)
        base = self.offset * old // new + (0 if offset is None else whole(offset, "ap: offset"))
        shape, strides = explicit(self, pattern, self.buffer_.size_bytes // new)
        if scalar_offset is not None or vector_offset is not None:
            require_dynamic_offset(self, scalar_offset, vector_offset, indirect_dim)
            step = self.strides[indirect_dim] * old // new
        if scalar_offset is not None:
            base += whole(scalar_offset, "ap: scalar_offset") * step
        result = AccessPattern(self.buffer_, dtype or self.dtype, shape, strides, base)
        result.offset_from = scalar_offset if isinstance(scalar_offset, AccessPattern) else None
        if vector_offset is not None:
            result.indirection = picked_rows(result, vector_offset, step, self.shape[indirect_dim])
        result.is_explicit = True
        return result

    def is_inside(self) -> bool:
        """Whether every element lies in the buffer."""
        spans = [(n - 1) * s for n, s in zip(self.shape, self.strides, strict=True)]
        low = self.offset + sum(span for span in spans if span < 0)
        high = self.offset + sum(span for span in spans if span > 0)
        return (
            low >= 0 and high < self.buffer_.size_bytes * self.buffer_.partitions // self.itemsize
        )

    def _check_inside(self) -> None:
        """Every element lies in the buffer. Patterns outside may be made, but not used."""
        if not self.is_inside():
            total = self.buffer_.size_bytes * self.buffer_.partitions // self.itemsize
            raise OutOfBoundsError(
                f"access pattern {self.get_pattern()} from element {self.offset}",
                allowed=f"elements 0..{total - 1} of {self.name or 'the tensor'}",
            )

    def view(self, dtype: str) -> AccessPattern:
        """The same bytes as another dtype; the last axis grows or shrinks."""
        old, new = self.itemsize, dtypes.itemsize(dtype)
        if self.is_indirect():
            raise NkiValidationError(
                f"view as {dtype} of a view whose positions a tensor picks",
                allowed="a plain view",
                fix="call view before select, vector_select or indirect",
            )
        if self.strides[-1] != 1 and self.shape[-1] != 1:
            raise NkiValidationError(
                f"view as {dtype} of a tensor with strides {self.strides}",
                allowed="a contiguous last axis",
            )
        if self.shape[-1] * old % new or self.offset * old % new:
            raise NkiValidationError(
                f"view as {dtype}: last axis of {self.shape[-1]} {self.dtype} elements",
                allowed=f"a multiple of {new // old}",
            )
        shape = (*self.shape[:-1], self.shape[-1] * old // new)
        strides = (*(s * old // new for s in self.strides[:-1]), 1)
        return AccessPattern(self.buffer_, dtype, shape, strides, self.offset * old // new)

    reinterpret_cast = view

    def indirect(self, index: AccessPattern, num_elem: int | None = None) -> AccessPattern:
        """Columns that an index tile picks, on NeuronCore-v4 (`isa.columns`)."""
        count, strides, picked = indirect_columns(self, index, num_elem)
        return self._with((self.shape[0], count), strides, indirection=picked)

    def __int__(self) -> int:
        """The value of a tensor of one element, where data are simulated."""
        if self.size != 1 or self.buffer_.storage is None:
            raise NeedsData(
                f"the value of {self!r} as an integer",
                allowed="a tensor of one element, in a simulation with data",
            )
        return int(self.array.reshape(-1)[0])

    def __repr__(self) -> str:
        label = self.buffer_.name or "tensor"
        return f"<{label} {self.dtype}{list(self.shape)} in {self.buffer_.space.value}>"
