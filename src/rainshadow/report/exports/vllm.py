"""vLLM's arguments for a deployment: one `vllm serve` line per kind of replica.

Source of the names: vllm-project/vllm, vllm/engine/arg_utils.py (0.11).
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

KIND = "serving"
FILE = "vllm_args.txt"
_QUANTIZATION = {"fp8": "fp8", "int8": "bitsandbytes", "fp4": "modelopt_fp4", "mxfp4": "mxfp4"}
_CACHE = {"fp8": "fp8", "fp4": "fp8", "mxfp4": "fp8"}


def export(plan: Mapping[str, Any]) -> str:
    """The command lines; a disaggregated plan has one for each side."""
    if plan["mode"] != "disaggregated":
        return _line(plan, None)
    share = plan["prefill_per_decode"]
    return (
        f"# {share:.3g} prefill replicas for each decoding one\n"
        + _line(plan, "kv_producer")
        + _line(plan, "kv_consumer")
    )


def _line(plan: Mapping[str, Any], role: str | None) -> str:
    replica, request = plan["replica"], plan["request"]
    words = [f"vllm serve {plan['model']}"]
    if replica["attention"] == "data":
        words += [f"--data-parallel-size {replica['chips']}", "--enable-expert-parallel"]
    else:
        words.append(f"--tensor-parallel-size {replica['ranks'] or replica['chips']}")
    share = replica["chips"] if replica["attention"] == "data" else 1
    words += [
        f"--max-model-len {request['prompt'] + request['output']}",
        f"--max-num-seqs {max(1, -(-int(plan['batch']) // share))}",
    ]
    if plan["mode"] == "chunked":
        tokens = plan["chunk"] + max(1, int(plan["batch"]) // share)
        words += ["--enable-chunked-prefill", f"--max-num-batched-tokens {tokens}"]
    else:
        words += [
            "--no-enable-chunked-prefill",
            f"--max-num-batched-tokens {request['prompt'] + request['output']}",
        ]
    if request["cached_prompt"]:
        words.append("--enable-prefix-caching")
    if plan["precision"] in _QUANTIZATION:
        words.append(f"--quantization {_QUANTIZATION[plan['precision']]}")
    else:
        words.append("--dtype bfloat16")
    if plan["precision"] in _CACHE:
        words.append(f"--kv-cache-dtype {_CACHE[plan['precision']]}")
    if plan["mode"] == "speculative":
        config = {"model": plan["draft"], "num_speculative_tokens": plan["draft_tokens"]}
        words.append(f"--speculative-config '{json.dumps(config)}'")
    if role is not None:
        config = {"kv_connector": "NixlConnector", "kv_role": role}
        words.append(f"--kv-transfer-config '{json.dumps(config)}'")
    return " \\\n    ".join(words) + "\n"
