"""Correct kernels, ours and AWS's, and the arguments to call them with."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from hazard_mutations import Case

from rainshadow import dtypes
from rainshadow.nki import Shape
from rainshadow.nki.kernel import Kernel
from rainshadow.nki.program import load_kernel
from rainshadow.validation.checkouts import Checkouts
from rainshadow.validation.points import Point
from rainshadow.validation.validate import families

_FOLDER = Path(__file__).parent
_SOFTMAX = _FOLDER.parents[2] / "examples" / "softmax_nki.py"
_ONE, _TWO = _FOLDER / "hazard_kernels.py", _FOLDER / "hazard_kernels_on_two_cores.py"

#: Shapes of float32 tensors, `Shape`s of others, [value] for a tuple; other values as they are.
_ARGUMENTS: dict[Path, dict[str, tuple[Any, ...]]] = {
    _SOFTMAX: {"softmax": ((256, 64),)},
    _ONE: {
        "matmul_in_banks": ((256, 128), (256, 1024)),
        "add_in_two_buffers": ((384, 128), (384, 128)),
        "layer_norm": ((200, 128), (128,)),
        "attention": ((64, 128), (64, 128), (128, 64)),
        "filter_by_taps": ((64, 130), (3, 64, 64)),
        "largest_so_far": ((384, 64),),
        "gather_rows": ((256, 64), "index"),
        "polynomial_from_a_stack": ((384, 64), (128, 64)),
        "softmax_in_two_passes": ((128, 384),),
        "two_layers": ((128, 128), (128, 256), (256, 128)),
        "running_sum": ((128, 256), 0.5),
        "rotate_halves": ((128, 64), (128, 32), (128, 32)),
        "mean_of_three_rows": ((6, 64, 32),),
        "count_by_class": ("labels", 8),
        "scatter_rows": ((128, 64), "index", 256),
        "center_in_place": ((128, 64),),
    },
    _TWO: {
        "sum_on_two_cores": ((256, 64),),
        "diffuse_on_two_cores": ((128, 32), 3),
        "transpose_on_two_cores": ((256, 256),),
        "normalize_columns_on_two_cores": ((128, 64),),
        "matmul_chain_on_two_cores": ((128, 128), (128, 128), (128, 128)),
        "sum_and_spread_on_two_cores": ((64, 64), 2),
    },
}


_TUTORIALS: dict[str, dict[str, tuple[Any, ...]]] = {
    "tensor_addition/tensor_addition_nki_kernels.py": {
        "nki_tensor_add": ((256, 1024), (256, 1024)),
    },
    "transpose2d/transpose2d_nki_kernels.py": {
        "tensor_transpose2D_kernel_": ((5, 12), [(3, 4)]),
    },
    "average_pool2d/average_pool2d_nki_kernels.py": {"tensor_avgpool_kernel": ((3, 8, 8), 2)},
    "matrix_multiplication/matrix_multiplication_nki_kernels.py": {
        "nki_matmul_basic_": (Shape((128, 64), "bfloat16"), Shape((128, 512), "bfloat16")),
        **{
            f"nki_matmul_{name}_": (Shape((k, m), "bfloat16"), Shape((k, n), "bfloat16"))
            for name, m, k, n in (
                ("tiled", 256, 256, 1024),
                ("hoist_load", 256, 256, 1024),
                ("block_free_dimension", 256, 256, 1024),
                ("fully_optimized", 2048, 1024, 1024),
            )
        },
    },
    "fused_mamba/mamba_nki_kernels.py": dict.fromkeys(
        ("mamba_v1", "mamba_v2", "mamba_v3"),
        ((1, 128, 512), (1, 128, 512), (128, 4), (1, 4, 512), (1, 4, 512)),
    ),
}

_ATTENTION = "tutorials/attention_fwd_performance/attention_kernels.py"
#: Versions of aws-neuron/nki-samples' attention, and how long their sequences are at least.
_SAMPLES = {1: 128, 2: 128, 3: 512, 4: 512, 5: 512, 6: 512, 7: 512}

#: Kernel, file and shapes, as tables of published figures name them.
_LIBRARY = (
    (
        "rmsnorm_quant_kernel",
        "nkilib_src/nkilib/core/rmsnorm/rmsnorm_quant.py",
        "batch=1 seqlen=160 hidden=2048 quant=ROW lnc=2",
    ),
    (
        "attention_cte",
        "nkilib_src/nkilib/core/attention/attention_cte.py:attention_cte",
        "vnc_degree=2 bs=1 seqlen_kv=512 seqlen_q=512 d=128 softmax_scale=1.0 causal_mask=True "
        "tp_q=False tp_out=True sink=False sliding_window=0",
    ),
    (
        "mlp (TKG)",
        "nkilib_src/nkilib/core/mlp/mlp.py:mlp",
        "lnc=2 batch=4 seqlen=5 hidden=1024 intermediate=512 quant_dtype=fp8_e4m3 quant=STATIC "
        "norm=RMS_NORM act=SiLU dn_coltile=True",
    ),
    (
        "mlp (TKG), rows",
        "nkilib_src/nkilib/core/mlp/mlp.py:mlp",
        "lnc=2 batch=4 seqlen=5 hidden=1024 intermediate=512 quant_dtype=fp8_e4m3 quant=ROW "
        "norm=RMS_NORM act=SiLU gu_coltile=True",
    ),
    (
        "mlp (CTE)",
        "nkilib_src/nkilib/core/mlp/mlp.py:mlp",
        "lnc=2 batch=1 seqlen=768 hidden=1024 intermediate=896 rtol=0.02 norm=RMS_NORM quant=NONE "
        "fused_add=True act=SiLU gate_bias=True",
    ),
    (
        "attention_cte, a prefix",
        "nkilib_src/nkilib/core/attention/attention_cte.py:attention_cte",
        "vnc_degree=2 bs=1 seqlen_kv=256 seqlen_q=256 prior_len=2048 prior_used_len=1920 d=128 "
        "softmax_scale=1.0 causal_mask=True tp_q=True tp_k=True tp_out=True sink=False "
        "sliding_window=0",
    ),
)


def own_cases() -> list[Case]:
    """Every kernel of the table above."""
    return [
        Case(name, _loader(path, name, 2 if path is _TWO else 1), _maker(given), path)
        for path, kernels in _ARGUMENTS.items()
        for name, given in kernels.items()
    ]


def tutorial_cases(checkout: str) -> list[Case]:
    """AWS's tutorials. checkout: of aws-neuron/aws-neuron-sdk."""
    folder = Path(checkout) / "nki" / "examples"
    return [
        Case(name, _loader(folder / file, name, 1), _maker(given), folder / file, "aws-neuron-sdk")
        for file, kernels in _TUTORIALS.items()
        for name, given in kernels.items()
    ]


def sample_cases(checkout: str) -> list[Case]:
    """Attention, one version after another. checkout: of aws-neuron/nki-samples."""
    path = Path(checkout) / "src" / "nki_samples" / _ATTENTION
    return [
        Case(
            f"attn_fwd_v{version}",
            _loader(path, f"attn_fwd_v{version}", 1),
            _maker(((128, length),) * 3),
            path,
            "nki-samples",
        )
        for version, length in _SAMPLES.items()
    ]


def library_cases(checkout: str) -> list[Case]:
    """Kernels of nki-library, most on two cores. checkout: of aws-neuron/nki-library."""
    checkouts = Checkouts({"nki-library": Path(checkout)})
    return [_library_case(*names, checkouts) for names in _LIBRARY]


#: Variable that names a checkout -> the cases in it.
OF_CHECKOUTS = {
    "RAINSHADOW_CHECKOUT_AWS_NEURON_SDK": tutorial_cases,
    "RAINSHADOW_CHECKOUT_NKI_SAMPLES": sample_cases,
    "RAINSHADOW_CHECKOUT_NKI_LIBRARY": library_cases,
}


def _library_case(name: str, file: str, shapes: str, checkouts: Checkouts) -> Case:
    row = {
        "kernel": name.partition(",")[0],
        "source_of_kernel": f"aws-neuron/nki-library:src/{file}",
        "shapes": shapes,
        "dtype": "bf16",
        "device": "trn2",
    }
    point = Point(name, "", None, "s", row)
    launch = next(f for f in families().values() if f.claims(point)).launch(point, checkouts)

    def load() -> Any:
        for module in [m for m in sys.modules if m.partition(".")[0] == "nkilib_src"]:
            del sys.modules[module]
        kernel = launch.kernel()
        return (kernel if isinstance(kernel, Kernel) else Kernel(kernel))[launch.lnc]

    def make() -> tuple[tuple[Any, ...], dict[str, Any]]:
        rng = np.random.default_rng(0)
        return (), {key: _argument(value, rng) for key, value in launch.arguments().items()}

    path = checkouts.folder("nki-library") / "src" / file
    return Case(name, load, make, path, "nki-library")


def _loader(path: Path, name: str, cores: int) -> Callable[[], Any]:
    return lambda: load_kernel(path, name)[cores]


def _maker(given: tuple[Any, ...]) -> Callable[[], tuple[tuple[Any, ...], dict[str, Any]]]:
    def make() -> tuple[tuple[Any, ...], dict[str, Any]]:
        rng = np.random.default_rng(0)
        return tuple(_argument(value, rng) for value in given), {}

    return make


def _argument(value: Any, rng: np.random.Generator) -> Any:
    if isinstance(value, Shape):
        numbers = rng.standard_normal(value.shape, dtype=np.float32)
        return numbers.astype(dtypes.numpy_dtype(value.dtype))
    if isinstance(value, tuple):
        return rng.standard_normal(value, dtype=np.float32)
    if value == "index":
        return rng.permutation(256)[:128].astype(np.int32).reshape(128, 1)
    if value == "labels":
        return rng.integers(0, 8, (256, 1)).astype(np.float32)
    return value[0] if isinstance(value, list) else value
