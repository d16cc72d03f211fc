"""Correct kernels that manage memory by hand: banks, addresses, barriers, partial tiles, gathers.

What `rainshadow check` must find nothing in, and where mutations have something to break.
"""

import nki
import nki.isa as nisa
import nki.language as nl

BANK_BYTES = 2048


@nki.jit
def matmul_in_banks(lhs_t, rhs):
    """[K, M].T @ [K, N]; each column block accumulates in its own PSUM bank."""
    depth, rows = lhs_t.shape
    columns = rhs.shape[1]
    result = nl.ndarray((rows, columns), dtype=nl.float32, buffer=nl.shared_hbm)
    blocks = columns // 512
    for m in range(rows // 128):
        banks = []
        for n in range(blocks):
            bank = nl.ndarray(
                (128, 512), dtype=nl.float32, buffer=nl.psum, address=(0, n * BANK_BYTES)
            )
            banks.append(bank)
        for k in range(depth // 128):
            left = nl.ndarray((128, 128), dtype=lhs_t.dtype, buffer=nl.sbuf)
            nisa.dma_copy(dst=left, src=lhs_t[nl.ds(k * 128, 128), nl.ds(m * 128, 128)])
            right = nl.ndarray((128, columns), dtype=rhs.dtype, buffer=nl.sbuf)
            nisa.dma_copy(dst=right, src=rhs[nl.ds(k * 128, 128)])
            for n in range(blocks):
                moving = right[:, nl.ds(n * 512, 512)]
                nisa.nc_matmul(banks[n], left, moving, accumulate=k > 0)
        for n in range(blocks):
            out = nl.ndarray((128, 512), dtype=nl.float32, buffer=nl.sbuf)
            nisa.tensor_copy(dst=out, src=banks[n])
            nisa.dma_copy(dst=result[nl.ds(m * 128, 128), nl.ds(n * 512, 512)], src=out)
    return result


@nki.jit
def add_in_two_buffers(a, b):
    """a + b; loads go into one half of the buffers while the other half is added."""
    rows, columns = a.shape
    size = columns * 4
    result = nl.ndarray(a.shape, dtype=a.dtype, buffer=nl.shared_hbm)
    count = rows // 128

    def load(index):
        half = index % 2
        left = nl.ndarray(
            (128, columns), dtype=a.dtype, buffer=nl.sbuf, address=(0, 2 * half * size)
        )
        right = nl.ndarray(
            (128, columns), dtype=b.dtype, buffer=nl.sbuf, address=(0, (2 * half + 1) * size)
        )
        nisa.dma_copy(dst=left, src=a[nl.ds(index * 128, 128)])
        nisa.dma_copy(dst=right, src=b[nl.ds(index * 128, 128)])
        return left, right

    coming = load(0)
    for index in range(count):
        left, right = coming
        if index + 1 < count:
            coming = load(index + 1)
        total = nl.ndarray((128, columns), dtype=a.dtype, buffer=nl.sbuf, address=(0, 4 * size))
        nisa.tensor_tensor(dst=total, data1=left, data2=right, op=nl.add)
        nisa.dma_copy(dst=result[nl.ds(index * 128, 128)], src=total)
    return result


@nki.jit
def layer_norm(x, weight):
    """Rows to mean 0 and variance 1, times weight; the last tile is not full."""
    rows, columns = x.shape
    result = nl.ndarray(x.shape, dtype=x.dtype, buffer=nl.shared_hbm)
    scale = nl.ndarray((128, columns), dtype=nl.float32, buffer=nl.sbuf)
    nisa.dma_copy(dst=scale, src=weight.reshape((1, columns)).broadcast(0, 128))
    epsilon = nl.ndarray((128, 1), dtype=nl.float32, buffer=nl.sbuf)
    nisa.memset(dst=epsilon, value=1e-5)
    for start in range(0, rows, 128):
        count = min(128, rows - start)
        tile = nl.ndarray((128, columns), dtype=nl.float32, buffer=nl.sbuf)
        nisa.dma_copy(dst=tile[:count], src=x[nl.ds(start, count)])
        stats = nl.ndarray((128, 6), dtype=nl.float32, buffer=nl.sbuf)
        nisa.bn_stats(dst=stats[:count], data=tile[:count])
        moments = nl.ndarray((128, 2), dtype=nl.float32, buffer=nl.sbuf)
        nisa.bn_aggr(dst=moments[:count], data=stats[:count])
        inverse = nl.ndarray((128, 1), dtype=nl.float32, buffer=nl.sbuf)
        nisa.activation(
            dst=inverse[:count],
            op=nl.rsqrt,
            data=moments[:count, 1:2],
            bias=epsilon[:count],
        )
        nisa.tensor_scalar(
            dst=tile[:count],
            data=tile[:count],
            op0=nl.subtract,
            operand0=moments[:count, 0:1],
            op1=nl.multiply,
            operand1=inverse[:count],
        )
        # The whole tile: what lies below the last row is never stored.
        nisa.tensor_tensor(dst=tile, data1=tile, data2=scale, op=nl.multiply)
        nisa.dma_copy(dst=result[nl.ds(start, count)], src=tile[:count])
    return result


@nki.jit
def attention(q, k, v):
    """softmax(q.T @ k) @ v of one head; q, k: [depth, 128], v: [128, depth]."""
    depth, length = q.shape
    result = nl.ndarray((length, depth), dtype=q.dtype, buffer=nl.shared_hbm)
    tiles = []
    for source in (q, k, v):
        tile = nl.ndarray(source.shape, dtype=source.dtype, buffer=nl.sbuf)
        nisa.dma_copy(dst=tile, src=source)
        tiles.append(tile)
    scores = nl.ndarray((length, length), dtype=nl.float32, buffer=nl.psum, address=(0, 0))
    nisa.nc_matmul(scores, tiles[0], tiles[1])
    largest = nl.ndarray((length, 1), dtype=nl.float32, buffer=nl.sbuf)
    nisa.tensor_reduce(dst=largest, op=nl.maximum, data=scores, axis=1, negate=True)
    powers = nl.ndarray((length, length), dtype=nl.float32, buffer=nl.sbuf)
    total = nl.ndarray((length, 1), dtype=nl.float32, buffer=nl.sbuf)
    nisa.activation_reduce(
        dst=powers, op=nl.exp, data=scores, bias=largest, reduce_op=nl.add, reduce_res=total
    )
    turned = nl.ndarray((length, length), dtype=nl.float32, buffer=nl.psum, address=(0, BANK_BYTES))
    nisa.nc_transpose(turned, powers)
    nisa.tensor_copy(dst=powers, src=turned)
    mixed = nl.ndarray((length, depth), dtype=nl.float32, buffer=nl.psum, address=(0, 0))
    nisa.nc_matmul(mixed, powers, tiles[2])
    nisa.reciprocal(dst=total, data=total)
    out = nl.ndarray((length, depth), dtype=q.dtype, buffer=nl.sbuf)
    nisa.tensor_scalar(dst=out, data=mixed, op0=nl.multiply, operand0=total)
    nisa.dma_copy(dst=result, src=out)
    return result


@nki.jit
def filter_by_taps(x, taps):
    """y[i] = sum of taps[t].T @ x[i + t]: taps [T, C, C], x [C, length]; all in one bank."""
    count, channels, _ = taps.shape
    length = x.shape[1] - count + 1
    result = nl.ndarray((channels, length), dtype=nl.float32, buffer=nl.shared_hbm)
    image = nl.ndarray(x.shape, dtype=x.dtype, buffer=nl.sbuf)
    nisa.dma_copy(dst=image, src=x)
    kernel = nl.ndarray((channels, count * channels), dtype=taps.dtype, buffer=nl.sbuf)
    for tap in range(count):
        nisa.dma_copy(dst=kernel[:, nl.ds(tap * channels, channels)], src=taps[tap])
    total = nl.ndarray((channels, length), dtype=nl.float32, buffer=nl.psum)
    for tap in range(count):
        nisa.nc_matmul(
            total, kernel[:, nl.ds(tap * channels, channels)], image[:, nl.ds(tap, length)]
        )
    out = nl.ndarray((channels, length), dtype=nl.float32, buffer=nl.sbuf)
    nisa.tensor_copy(dst=out, src=total)
    nisa.dma_copy(dst=result, src=out)
    return result


@nki.jit
def largest_so_far(x):
    """Maximum over blocks of rows, kept in a tile that starts at the least number."""
    rows, columns = x.shape
    result = nl.ndarray((128, columns), dtype=x.dtype, buffer=nl.shared_hbm)
    largest = nl.ndarray((128, columns), dtype=x.dtype, buffer=nl.sbuf)
    nisa.memset(dst=largest, value=-3e38)
    tile = nl.ndarray((128, columns), dtype=x.dtype, buffer=nl.sbuf)
    for block in range(rows // 128):
        nisa.dma_copy(dst=tile, src=x[nl.ds(block * 128, 128)])
        nisa.tensor_tensor(dst=largest, data1=largest, data2=tile, op=nl.maximum)
    nisa.dma_copy(dst=result, src=largest)
    return result


@nki.jit
def gather_rows(table, index):
    """table[index] * 2; index: [128, 1]."""
    columns = table.shape[1]
    result = nl.ndarray((128, columns), dtype=table.dtype, buffer=nl.shared_hbm)
    rows = nl.ndarray((128, 1), dtype=index.dtype, buffer=nl.sbuf)
    nisa.dma_copy(dst=rows, src=index)
    tile = nl.ndarray((128, columns), dtype=table.dtype, buffer=nl.sbuf)
    nisa.dma_copy(dst=tile, src=table.ap([[columns, 128], [1, columns]], vector_offset=rows))
    nisa.tensor_scalar(dst=tile, data=tile, op0=nl.multiply, operand0=2.0)
    nisa.dma_copy(dst=result, src=tile)
    return result


class Stack(nl.NKIObject):
    """Gives out SBUF from the bottom; `mark` and `free_to` give back what came later."""

    def __init__(self):
        self.top = 0

    def tile(self, shape, dtype):
        size = shape[1] * 4
        self.top = self.top + size
        return nl.ndarray(shape, dtype=dtype, buffer=nl.sbuf, address=(0, self.top - size))

    def free_to(self, mark):
        self.top = mark


@nki.jit
def polynomial_from_a_stack(x, bias):
    """(x * x + bias) * x by blocks of rows, temporaries taken from a stack and given back."""
    rows, columns = x.shape
    result = nl.ndarray(x.shape, dtype=x.dtype, buffer=nl.shared_hbm)
    stack = Stack()
    constant = stack.tile((128, columns), x.dtype)
    nisa.dma_copy(dst=constant, src=bias)
    for block in range(rows // 128):
        mark = stack.top
        tile = stack.tile((128, columns), x.dtype)
        nisa.dma_copy(dst=tile, src=x[nl.ds(block * 128, 128)])
        square = stack.tile((128, columns), x.dtype)
        nisa.tensor_tensor(dst=square, data1=tile, data2=tile, op=nl.multiply)
        total = stack.tile((128, columns), x.dtype)
        nisa.tensor_tensor(dst=total, data1=square, data2=constant, op=nl.add)
        nisa.tensor_tensor(dst=square, data1=total, data2=tile, op=nl.multiply)
        nisa.dma_copy(dst=result[nl.ds(block * 128, 128)], src=square)
        stack.free_to(mark)
    return result


@nki.jit
def softmax_in_two_passes(x):
    """Rows in blocks of columns: running maximum and sum first, then the powers."""
    rows, columns = x.shape
    width = 128
    result = nl.ndarray(x.shape, dtype=x.dtype, buffer=nl.shared_hbm)
    tile = nl.ndarray((rows, columns), dtype=x.dtype, buffer=nl.sbuf)
    nisa.dma_copy(dst=tile, src=x)
    largest = nl.ndarray((rows, 1), dtype=nl.float32, buffer=nl.sbuf)
    nisa.memset(dst=largest, value=-1e30)
    total = nl.ndarray((rows, 1), dtype=nl.float32, buffer=nl.sbuf)
    nisa.memset(dst=total, value=0.0)
    for block in range(columns // width):
        part = tile[:, nl.ds(block * width, width)]
        here = nl.ndarray((rows, 1), dtype=nl.float32, buffer=nl.sbuf)
        nisa.tensor_reduce(dst=here, op=nl.maximum, data=part, axis=1)
        nisa.tensor_tensor(dst=here, data1=here, data2=largest, op=nl.maximum)
        decay = nl.ndarray((rows, 1), dtype=nl.float32, buffer=nl.sbuf)
        nisa.tensor_tensor(dst=decay, data1=largest, data2=here, op=nl.subtract)
        nisa.activation(dst=decay, op=nl.exp, data=decay)
        nisa.tensor_copy(dst=largest, src=here)
        minus = nl.ndarray((rows, 1), dtype=nl.float32, buffer=nl.sbuf)
        nisa.tensor_scalar(dst=minus, data=here, op0=nl.multiply, operand0=-1.0)
        powers = nl.ndarray((rows, width), dtype=nl.float32, buffer=nl.sbuf)
        added = nl.ndarray((rows, 1), dtype=nl.float32, buffer=nl.sbuf)
        nisa.activation_reduce(
            dst=powers, op=nl.exp, data=part, bias=minus, reduce_op=nl.add, reduce_res=added
        )
        nisa.tensor_tensor(dst=total, data1=total, data2=decay, op=nl.multiply)
        nisa.tensor_tensor(dst=total, data1=total, data2=added, op=nl.add)
    nisa.tensor_scalar(dst=largest, data=largest, op0=nl.multiply, operand0=-1.0)
    nisa.activation(dst=tile, op=nl.exp, data=tile, bias=largest)
    nisa.reciprocal(dst=total, data=total)
    nisa.tensor_scalar(dst=tile, data=tile, op0=nl.multiply, operand0=total)
    nisa.dma_copy(dst=result, src=tile)
    return result


@nki.jit
def two_layers(x, up, down):
    """relu(x @ up) @ down; x: [128, 128], up: [128, 256], down: [256, 128]; all addresses given."""
    inner = up.shape[1]
    result = nl.ndarray((128, 128), dtype=nl.float32, buffer=nl.shared_hbm)
    rows = nl.ndarray((128, 128), dtype=nl.float32, buffer=nl.sbuf, address=(0, 0))
    nisa.dma_copy(dst=rows, src=x)
    first = nl.ndarray((128, inner), dtype=nl.float32, buffer=nl.sbuf, address=(0, 512))
    nisa.dma_copy(dst=first, src=up)
    turned = nl.ndarray((128, 128), dtype=nl.float32, buffer=nl.psum, address=(0, 0))
    nisa.nc_transpose(turned, rows)
    # The rows are no longer needed: their transpose takes their place.
    columns = nl.ndarray((128, 128), dtype=nl.float32, buffer=nl.sbuf, address=(0, 0))
    nisa.tensor_copy(dst=columns, src=turned)
    final = nl.ndarray((128, 128), dtype=nl.float32, buffer=nl.psum, address=(0, 4 * BANK_BYTES))
    for half in range(inner // 128):
        hidden = nl.ndarray(
            (128, 128), dtype=nl.float32, buffer=nl.psum, address=(0, (1 + half) * BANK_BYTES)
        )
        nisa.nc_matmul(hidden, first[:, nl.ds(half * 128, 128)], columns)
        active = nl.ndarray(
            (128, 128), dtype=nl.float32, buffer=nl.sbuf, address=(0, 2048 + half * 512)
        )
        nisa.activation(dst=active, op=nl.relu, data=hidden)
        second = nl.ndarray(
            (128, 128), dtype=nl.float32, buffer=nl.sbuf, address=(0, 3072 + half * 512)
        )
        nisa.dma_copy(dst=second, src=down[nl.ds(half * 128, 128)])
        nisa.nc_matmul(final, active, second, accumulate=half > 0)
    out = nl.ndarray((128, 128), dtype=nl.float32, buffer=nl.sbuf, address=(0, 4096))
    nisa.tensor_copy(dst=out, src=final)
    nisa.dma_copy(dst=result, src=out)
    return result


@nki.jit
def running_sum(x, decay):
    """y[:, t] = decay * y[:, t - 1] + x[:, t], in blocks that hand on their last column."""
    rows, columns = x.shape
    width = columns // 4
    result = nl.ndarray(x.shape, dtype=x.dtype, buffer=nl.shared_hbm)
    factor = nl.ndarray((rows, width), dtype=x.dtype, buffer=nl.sbuf)
    nisa.memset(dst=factor, value=decay)
    last = nl.ndarray((rows, 1), dtype=x.dtype, buffer=nl.sbuf)
    nisa.memset(dst=last, value=0.0)
    for block in range(4):
        here = nl.ds(block * width, width)
        tile = nl.ndarray((rows, width), dtype=x.dtype, buffer=nl.sbuf)
        nisa.dma_copy(dst=tile, src=x[:, here])
        sums = nl.ndarray((rows, width), dtype=x.dtype, buffer=nl.sbuf)
        nisa.tensor_tensor_scan(
            dst=sums, data0=factor, data1=tile, initial=last, op0=nl.multiply, op1=nl.add
        )
        nisa.tensor_copy(dst=last, src=sums[:, width - 1 : width])
        nisa.dma_copy(dst=result[:, here], src=sums)
    return result


@nki.jit
def rotate_halves(x, cosine, sine):
    """Rotary embedding: (a, b) to (a cos - b sin, b cos + a sin), a and b the halves of a row."""
    rows, columns = x.shape
    half = columns // 2
    size = columns * 4
    result = nl.ndarray(x.shape, dtype=x.dtype, buffer=nl.shared_hbm)
    tile = nl.ndarray((rows, columns), dtype=x.dtype, buffer=nl.sbuf, address=(0, 0))
    nisa.dma_copy(dst=tile, src=x)
    cos = nl.ndarray((rows, half), dtype=x.dtype, buffer=nl.sbuf, address=(0, size))
    nisa.dma_copy(dst=cos, src=cosine)
    sin = nl.ndarray((rows, half), dtype=x.dtype, buffer=nl.sbuf, address=(0, size + size // 2))
    nisa.dma_copy(dst=sin, src=sine)
    out = nl.ndarray((rows, columns), dtype=x.dtype, buffer=nl.sbuf, address=(0, 2 * size))
    other = nl.ndarray((rows, half), dtype=x.dtype, buffer=nl.sbuf, address=(0, 3 * size))
    left, right = tile[:, :half], tile[:, half:]
    nisa.tensor_tensor(dst=out[:, :half], data1=left, data2=cos, op=nl.multiply)
    nisa.tensor_tensor(dst=other, data1=right, data2=sin, op=nl.multiply)
    nisa.tensor_tensor(dst=out[:, :half], data1=out[:, :half], data2=other, op=nl.subtract)
    nisa.tensor_tensor(dst=out[:, half:], data1=right, data2=cos, op=nl.multiply)
    nisa.tensor_tensor(dst=other, data1=left, data2=sin, op=nl.multiply)
    nisa.tensor_tensor(dst=out[:, half:], data1=out[:, half:], data2=other, op=nl.add)
    nisa.dma_copy(dst=result, src=out)
    return result


@nki.jit
def mean_of_three_rows(x):
    """y[i] = (x[i] + x[i + 1] + x[i + 2]) / 3 by blocks; three buffers take turns."""
    blocks, rows, columns = x.shape
    size = columns * 4
    result = nl.ndarray((blocks - 2, rows, columns), dtype=x.dtype, buffer=nl.shared_hbm)
    ring = []
    for slot in range(3):
        tile = nl.ndarray((rows, columns), dtype=x.dtype, buffer=nl.sbuf, address=(0, slot * size))
        ring.append(tile)
    for block in range(2):
        nisa.dma_copy(dst=ring[block], src=x[block])
    for block in range(2, blocks):
        nisa.dma_copy(dst=ring[block % 3], src=x[block])
        total = nl.ndarray((rows, columns), dtype=x.dtype, buffer=nl.sbuf, address=(0, 3 * size))
        nisa.tensor_tensor(dst=total, data1=ring[0], data2=ring[1], op=nl.add)
        nisa.tensor_tensor(dst=total, data1=total, data2=ring[2], op=nl.add)
        nisa.tensor_scalar(dst=total, data=total, op0=nl.multiply, operand0=1.0 / 3.0)
        nisa.dma_copy(dst=result[block - 2], src=total)
    return result


@nki.jit
def count_by_class(labels, classes):
    """How often each class occurs: one-hot columns summed by the systolic array."""
    rows = labels.shape[0]
    result = nl.ndarray((classes, 1), dtype=nl.float32, buffer=nl.shared_hbm)
    numbers = nl.ndarray((128, classes), dtype=nl.float32, buffer=nl.sbuf)
    nisa.iota(dst=numbers, pattern=[[1, classes]], offset=0, channel_multiplier=0)
    ones = nl.ndarray((128, 1), dtype=nl.float32, buffer=nl.sbuf)
    nisa.memset(dst=ones, value=1.0)
    counts = nl.ndarray((classes, 1), dtype=nl.float32, buffer=nl.psum, address=(0, 3 * BANK_BYTES))
    for block in range(rows // 128):
        label = nl.ndarray((128, 1), dtype=nl.float32, buffer=nl.sbuf)
        nisa.dma_copy(dst=label, src=labels[nl.ds(block * 128, 128)])
        chosen = nl.ndarray((128, classes), dtype=nl.float32, buffer=nl.sbuf)
        nisa.tensor_scalar(dst=chosen, data=numbers, op0=nl.equal, operand0=label)
        nisa.nc_matmul(counts, chosen, ones, accumulate=block > 0)
    out = nl.ndarray((classes, 1), dtype=nl.float32, buffer=nl.sbuf)
    nisa.tensor_copy(dst=out, src=counts)
    nisa.dma_copy(dst=result, src=out)
    return result


@nki.jit
def scatter_rows(x, index, rows):
    """A matrix of `rows` rows of zeros, x's rows at `index`; index: [128, 1], no number twice."""
    columns = x.shape[1]
    result = nl.ndarray((rows, columns), dtype=x.dtype, buffer=nl.shared_hbm)
    zeros = nl.ndarray((128, columns), dtype=x.dtype, buffer=nl.sbuf)
    nisa.memset(dst=zeros, value=0.0)
    for block in range(rows // 128):
        nisa.dma_copy(dst=result[nl.ds(block * 128, 128)], src=zeros)
    where = nl.ndarray((128, 1), dtype=index.dtype, buffer=nl.sbuf)
    nisa.dma_copy(dst=where, src=index)
    tile = nl.ndarray((128, columns), dtype=x.dtype, buffer=nl.sbuf)
    nisa.dma_copy(dst=tile, src=x)
    nisa.dma_copy(dst=result.ap([[columns, 128], [1, columns]], vector_offset=where), src=tile)
    return result


@nki.jit
def center_in_place(x):
    """Rows less their mean; the square root of the variance takes the place of the sums."""
    rows, columns = x.shape
    result = nl.ndarray((rows, columns + 1), dtype=x.dtype, buffer=nl.shared_hbm)
    tile = nl.ndarray((rows, columns), dtype=x.dtype, buffer=nl.sbuf, address=(0, 64))
    nisa.dma_copy(dst=tile, src=x)
    mean = nl.ndarray((rows, 1), dtype=x.dtype, buffer=nl.sbuf, address=(0, 0))
    nisa.tensor_reduce(dst=mean, op=nl.add, data=tile, axis=1)
    nisa.tensor_scalar(dst=mean, data=mean, op0=nl.multiply, operand0=1.0 / columns)
    nisa.tensor_scalar(dst=tile, data=tile, op0=nl.subtract, operand0=mean)
    variance = nl.ndarray((rows, 1), dtype=x.dtype, buffer=nl.sbuf, address=(0, 0))
    squares = nl.ndarray(
        (rows, columns), dtype=x.dtype, buffer=nl.sbuf, address=(0, 64 + columns * 4)
    )
    nisa.tensor_tensor(dst=squares, data1=tile, data2=tile, op=nl.multiply)
    nisa.tensor_reduce(dst=variance, op=nl.add, data=squares, axis=1)
    nisa.activation(dst=variance, op=nl.sqrt, data=variance, scale=1.0 / columns)
    nisa.dma_copy(dst=result[:, :columns], src=tile)
    nisa.dma_copy(dst=result[:, columns:], src=variance)
    return result
