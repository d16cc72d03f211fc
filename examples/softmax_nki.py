"""A row softmax as an NKI kernel, checked against NumPy when run as a script.

rainshadow profile examples/softmax_nki.py            # runs this file, profiles its launches
rainshadow profile examples/softmax_nki.py:softmax --arg x=4096x2048:bfloat16
"""

import nki
import nki.isa as nisa
import nki.language as nl


@nki.jit
def softmax(x):
    """x: [rows, columns], rows a multiple of 128; softmax over the columns, in x's dtype."""
    result = nl.ndarray(x.shape, dtype=x.dtype, buffer=nl.shared_hbm)
    rows, columns = x.shape
    for block in nl.affine_range(rows // 128):
        here = nl.ds(block * 128, 128)
        tile = nl.ndarray((128, columns), dtype=x.dtype, buffer=nl.sbuf)
        nisa.dma_copy(dst=tile, src=x[here])
        largest = nl.ndarray((128, 1), dtype=nl.float32, buffer=nl.sbuf)
        nisa.tensor_reduce(dst=largest, op=nl.maximum, data=tile, axis=1, negate=True)
        powers = nl.ndarray((128, columns), dtype=nl.float32, buffer=nl.sbuf)
        total = nl.ndarray((128, 1), dtype=nl.float32, buffer=nl.sbuf)
        nisa.activation_reduce(
            dst=powers, op=nl.exp, data=tile, bias=largest, reduce_op=nl.add, reduce_res=total
        )
        nisa.reciprocal(dst=total, data=total)
        nisa.tensor_scalar(dst=tile, data=powers, op0=nl.multiply, operand0=total)
        nisa.dma_copy(dst=result[here], src=tile)
    return result


if __name__ == "__main__":
    import numpy as np

    x = np.random.default_rng(0).standard_normal((256, 512), dtype=np.float32)
    powers = np.exp(x - x.max(1, keepdims=True))
    np.testing.assert_allclose(softmax(x), powers / powers.sum(1, keepdims=True), rtol=1e-5)
    print("softmax agrees with NumPy")
