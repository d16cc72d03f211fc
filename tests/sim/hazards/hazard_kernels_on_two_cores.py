"""Correct kernels for the two cores of a logical core: shared HBM, barriers, halves of the work."""

import nki
import nki.isa as nisa
import nki.language as nl


@nki.jit
def sum_on_two_cores(x):
    """Column sums of [256, columns]: each core sums half of the rows, then half of the columns."""
    columns = x.shape[1]
    result = nl.ndarray((1, columns), dtype=x.dtype, buffer=nl.shared_hbm)
    partial = nl.ndarray((2, columns), dtype=x.dtype, buffer=nl.shared_hbm)
    core = nl.program_id(0)
    tile = nl.ndarray((128, columns), dtype=x.dtype, buffer=nl.sbuf)
    nisa.dma_copy(dst=tile, src=x[nl.ds(core * 128, 128)])
    mine = nl.ndarray((1, columns), dtype=x.dtype, buffer=nl.sbuf)
    nisa.tensor_partition_reduce(dst=mine, op=nl.add, data=tile)
    nisa.dma_copy(dst=partial[nl.ds(core, 1)], src=mine)
    nisa.core_barrier(data=partial, cores=(0, 1))
    half = columns // 2
    here = nl.ds(core * half, half)
    first = nl.ndarray((1, half), dtype=x.dtype, buffer=nl.sbuf)
    nisa.dma_copy(dst=first, src=partial[0:1, here])
    second = nl.ndarray((1, half), dtype=x.dtype, buffer=nl.sbuf)
    nisa.dma_copy(dst=second, src=partial[1:2, here])
    nisa.tensor_tensor(dst=first, data1=first, data2=second, op=nl.add)
    nisa.dma_copy(dst=result[0:1, here], src=first)
    return result


@nki.jit
def diffuse_on_two_cores(x, steps):
    """Each step a row becomes the mean of itself and the next; rows of a core lie on both."""
    rows, columns = x.shape
    half = rows // 2
    core = nl.program_id(0)
    states = [nl.ndarray(x.shape, dtype=x.dtype, buffer=nl.shared_hbm) for _ in range(2)]
    tile = nl.ndarray((half, columns), dtype=x.dtype, buffer=nl.sbuf)
    below = nl.ndarray((half, columns), dtype=x.dtype, buffer=nl.sbuf)
    source = x
    for step in range(steps):
        target = states[step % 2]
        nisa.dma_copy(dst=tile, src=source[nl.ds(core * half, half)])
        if core == 0:
            nisa.dma_copy(dst=below, src=source[1 : half + 1])
        else:
            nisa.dma_copy(dst=below[0 : half - 1], src=source[half + 1 : rows])
            nisa.dma_copy(dst=below[half - 1 : half], src=source[0:1])
        nisa.tensor_tensor(dst=tile, data1=tile, data2=below, op=nl.add)
        nisa.tensor_scalar(dst=tile, data=tile, op0=nl.multiply, operand0=0.5)
        nisa.dma_copy(dst=target[nl.ds(core * half, half)], src=tile)
        nisa.core_barrier(data=target, cores=(0, 1))
        source = target
    return source


@nki.jit
def transpose_on_two_cores(x):
    """[256, 256] transposed: each core stores its blocks, the other's are read after a barrier."""
    size = x.shape[0] // 2
    core = nl.program_id(0)
    middle = nl.ndarray(x.shape, dtype=x.dtype, buffer=nl.shared_hbm)
    result = nl.ndarray(x.shape, dtype=x.dtype, buffer=nl.shared_hbm)
    for column in range(2):
        tile = nl.ndarray((size, size), dtype=x.dtype, buffer=nl.sbuf)
        nisa.dma_copy(dst=tile, src=x[nl.ds(core * size, size), nl.ds(column * size, size)])
        turned = nl.ndarray((size, size), dtype=x.dtype, buffer=nl.psum)
        nisa.nc_transpose(turned, tile)
        nisa.tensor_copy(dst=tile, src=turned)
        nisa.dma_copy(dst=middle[nl.ds(column * size, size), nl.ds(core * size, size)], src=tile)
    nisa.core_barrier(data=middle, cores=(0, 1))
    row = nl.ndarray((size, x.shape[1]), dtype=x.dtype, buffer=nl.sbuf)
    nisa.dma_copy(dst=row, src=middle[nl.ds(core * size, size)])
    nisa.dma_copy(dst=result[nl.ds(core * size, size)], src=row)
    return result


@nki.jit
def normalize_columns_on_two_cores(x):
    """Columns divided by their sum: partial sums, a barrier, then every core its own rows."""
    rows, columns = x.shape
    half = rows // 2
    core = nl.program_id(0)
    sums = nl.ndarray((2, columns), dtype=x.dtype, buffer=nl.shared_hbm)
    result = nl.ndarray(x.shape, dtype=x.dtype, buffer=nl.shared_hbm)
    tile = nl.ndarray((half, columns), dtype=x.dtype, buffer=nl.sbuf)
    nisa.dma_copy(dst=tile, src=x[nl.ds(core * half, half)])
    part = nl.ndarray((1, columns), dtype=x.dtype, buffer=nl.sbuf)
    nisa.tensor_partition_reduce(dst=part, op=nl.add, data=tile)
    nisa.dma_copy(dst=sums[nl.ds(core, 1)], src=part)
    nisa.core_barrier(data=sums, cores=(0, 1))
    both = []
    for other in range(2):
        row = nl.ndarray((half, columns), dtype=x.dtype, buffer=nl.sbuf)
        nisa.dma_copy(dst=row, src=sums[nl.ds(other, 1)].broadcast(0, half))
        both.append(row)
    total = nl.ndarray((half, columns), dtype=x.dtype, buffer=nl.sbuf)
    nisa.tensor_tensor(dst=total, data1=both[0], data2=both[1], op=nl.add)
    nisa.reciprocal(dst=total, data=total)
    nisa.tensor_tensor(dst=tile, data1=tile, data2=total, op=nl.multiply)
    nisa.dma_copy(dst=result[nl.ds(core * half, half)], src=tile)
    return result


@nki.jit
def matmul_chain_on_two_cores(a, b, c):
    """(a @ b) @ c of [128, 128]: a core has rows of the first product, columns of the second."""
    core = nl.program_id(0)
    product = nl.ndarray((128, 128), dtype=nl.float32, buffer=nl.shared_hbm)
    result = nl.ndarray((128, 128), dtype=nl.float32, buffer=nl.shared_hbm)
    here = nl.ds(core * 64, 64)
    rows = nl.ndarray((64, 128), dtype=a.dtype, buffer=nl.sbuf)
    nisa.dma_copy(dst=rows, src=a[here])
    turned = nl.ndarray((128, 64), dtype=nl.float32, buffer=nl.psum, address=(0, 0))
    nisa.nc_transpose(turned, rows)
    columns = nl.ndarray((128, 64), dtype=nl.float32, buffer=nl.sbuf)
    nisa.tensor_copy(dst=columns, src=turned)
    right = nl.ndarray((128, 128), dtype=b.dtype, buffer=nl.sbuf)
    nisa.dma_copy(dst=right, src=b)
    first = nl.ndarray((64, 128), dtype=nl.float32, buffer=nl.psum, address=(0, 2048))
    nisa.nc_matmul(first, columns, right)
    mine = nl.ndarray((64, 128), dtype=nl.float32, buffer=nl.sbuf)
    nisa.tensor_copy(dst=mine, src=first)
    nisa.dma_copy(dst=product[here], src=mine)
    nisa.core_barrier(data=product, cores=(0, 1))
    whole = nl.ndarray((128, 128), dtype=nl.float32, buffer=nl.sbuf)
    nisa.dma_copy(dst=whole, src=product)
    flipped = nl.ndarray((128, 128), dtype=nl.float32, buffer=nl.psum, address=(0, 0))
    nisa.nc_transpose(flipped, whole)
    nisa.tensor_copy(dst=whole, src=flipped)
    last = nl.ndarray((128, 64), dtype=c.dtype, buffer=nl.sbuf)
    nisa.dma_copy(dst=last, src=c[:, here])
    second = nl.ndarray((128, 64), dtype=nl.float32, buffer=nl.psum, address=(0, 4096))
    nisa.nc_matmul(second, whole, last)
    out = nl.ndarray((128, 64), dtype=nl.float32, buffer=nl.sbuf)
    nisa.tensor_copy(dst=out, src=second)
    nisa.dma_copy(dst=result[:, here], src=out)
    return result


@nki.jit
def sum_and_spread_on_two_cores(x, rounds):
    """Each core adds what the other left in a mailbox, twice ordered: filled, then emptied."""
    rows, columns = x.shape
    core = nl.program_id(0)
    mailbox = nl.ndarray((2, rows, columns), dtype=x.dtype, buffer=nl.shared_hbm)
    result = nl.ndarray((2, rows, columns), dtype=x.dtype, buffer=nl.shared_hbm)
    tile = nl.ndarray((rows, columns), dtype=x.dtype, buffer=nl.sbuf)
    nisa.dma_copy(dst=tile, src=x)
    nisa.tensor_scalar(dst=tile, data=tile, op0=nl.multiply, operand0=float(core + 1))
    for _ in range(rounds):
        nisa.dma_copy(dst=mailbox[core], src=tile)
        nisa.core_barrier(data=mailbox, cores=(0, 1))
        other = nl.ndarray((rows, columns), dtype=x.dtype, buffer=nl.sbuf)
        nisa.dma_copy(dst=other, src=mailbox[1 - core])
        nisa.tensor_scalar(dst=other, data=other, op0=nl.multiply, operand0=0.5)
        nisa.tensor_tensor(dst=tile, data1=tile, data2=other, op=nl.add)
        nisa.core_barrier(data=mailbox, cores=(0, 1))
    nisa.dma_copy(dst=result[core], src=tile)
    return result
