"""Find the best way to serve a model within latency limits: chips, batch, $/M tokens.

MODEL is a shipped model, a .toml or a Hugging Face config.json. Searched: replica sizes, how
attention is divided, continuous batching, chunked prefill, disaggregated prefill, speculative
decoding (with --draft), and every batch that fits. TTFT is from a request's arrival at a free slot
to its first token; TPOT from its first to its last token over the tokens between.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from rainshadow.cli_options import (
    Prices,
    Region,
    SiteName,
    SummaryJson,
    Systems,
    Top,
    default_folder,
)

if TYPE_CHECKING:
    from rainshadow.cluster.serving.plan import Job

_Model = Annotated[str, typer.Argument(help="A model.")]
_Isl = Annotated[int, typer.Option(help="Tokens of a prompt.")]
_Osl = Annotated[int, typer.Option(help="Tokens of an answer.")]
_Ttft = Annotated[str | None, typer.Option(help="Time to first token at most: 2s, 500ms.")]
_Tpot = Annotated[str | None, typer.Option(help="Time per output token at most: 50ms.")]
_Cached = Annotated[int, typer.Option(help="Prompt tokens found in a prefix cache.")]
_Precision = Annotated[str, typer.Option(help="bf16, int8, fp8, fp4 or mxfp4.")]
_Mode = Annotated[
    str, typer.Option(help="continuous, chunked, disaggregated, speculative; several with commas.")
]
_Draft = Annotated[str | None, typer.Option(help="The small model of speculative decoding.")]
_Tokens = Annotated[int, typer.Option(help="Tokens it proposes.")]
_Acceptance = Annotated[float, typer.Option(help="Chance that one of them is taken, 0 to 1.")]
_Objective = Annotated[str, typer.Option(help="cost, energy or throughput (a chip).")]
_Demand = Annotated[float | None, typer.Option(help="Requests a second to carry.")]
_Out = Annotated[Path | None, typer.Option(help="Folder [rainshadow-out/serve-<model>].")]


def command(
    model: _Model,
    on: Systems = "trn2.48xlarge",
    isl: _Isl = 2048,
    osl: _Osl = 256,
    ttft: _Ttft = None,
    tpot: _Tpot = None,
    cached: _Cached = 0,
    precision: _Precision = "bf16",
    mode: _Mode = "",
    draft: _Draft = None,
    draft_tokens: _Tokens = 4,
    acceptance: _Acceptance = 0.7,
    objective: _Objective = "cost",
    requests_per_s: _Demand = None,
    region: Region = None,
    price: Prices = None,
    site: SiteName = "aws_fleet",
    top: Top = 5,
    out: _Out = None,
    as_json: SummaryJson = False,
) -> None:
    """Search, rank, write, print."""
    from rainshadow.cluster.planner.targets import chosen, system_names
    from rainshadow.cost.price import parse_prices
    from rainshadow.cost.serving_plans import SERVING_OBJECTIVES, serving_table
    from rainshadow.cost.serving_summary import summarize_serving
    from rainshadow.machine import load_site, load_system
    from rainshadow.porting.output import check_output
    from rainshadow.report.serving_plans import serving_text

    job = _job(
        model, isl, osl, cached, precision, ttft, tpot, mode, draft, draft_tokens, acceptance
    )
    _check_demand(requests_per_s, top)
    goal = chosen("objective", objective, SERVING_OBJECTIVES)
    prices, where = parse_prices(price or []), load_site(site)
    folder = out or default_folder("serve", model)
    check_output(folder)
    table = serving_table(
        job, [load_system(name) for name in system_names(on)], objective=goal, site=where,
        prices=prices, region=region, top=top,
    )  # fmt: skip
    summary = summarize_serving(
        table, job, model=model, requests_per_s=requests_per_s, site=site, prices=prices,
        command="rainshadow " + " ".join(sys.argv[1:]),
    )  # fmt: skip
    _write(summary, folder)
    print(json.dumps(summary, indent=2) if as_json else "\n".join(serving_text(summary)))
    print(f"rainshadow: written to {folder}/", file=sys.stderr)


def _check_demand(requests_per_s: float | None, top: int) -> None:
    """Errors: `InputError` for numbers that are none."""
    from rainshadow.errors import InputError

    if requests_per_s is not None and not requests_per_s > 0:
        raise InputError(f"--requests-per-s {requests_per_s:g}", allowed="above 0")
    if top < 1:
        raise InputError(f"--top {top}", allowed="1 or more")


def _job(
    model: str, isl: int, osl: int, cached: int, precision: str, ttft: str | None,
    tpot: str | None, mode: str, draft: str | None, draft_tokens: int, acceptance: float,
) -> Job:  # fmt: skip
    """What is served, from words.

    Errors: `UnknownNameError` for a model, precision or mode; `InputError` for a number out of
    range or speculative decoding without a draft.
    """
    from rainshadow.cluster.model_files import load_model
    from rainshadow.cluster.planner.targets import chosen, span_s
    from rainshadow.cluster.serving.batching import Request, tokens_per_verification
    from rainshadow.cluster.serving.latency import check_request
    from rainshadow.cluster.serving.plan import MODES, Job, Promise
    from rainshadow.cluster.serving.work import precision_of
    from rainshadow.errors import InputError

    check_request(isl, osl)
    if not 0 <= cached < isl:
        raise InputError(f"--cached {cached}", allowed=f"0 to {isl - 1}, less than --isl")
    tokens_per_verification(draft_tokens, acceptance)
    default = [name for name in MODES if name != "speculative" or draft]
    modes = [chosen("mode", word.strip(), MODES) for word in mode.split(",") if word.strip()]
    if "speculative" in modes and draft is None:
        raise InputError("--mode speculative without a draft", fix="add --draft MODEL")
    return Job(
        model=load_model(model),
        precision=precision_of(precision),
        request=Request(prompt=isl, output=osl, cached_prompt=cached),
        promise=Promise(
            ttft_s=span_s(ttft, "--ttft") if ttft else None,
            tpot_s=span_s(tpot, "--tpot") if tpot else None,
        ),
        modes=modes or default,
        draft=load_model(draft) if draft else None,
        draft_tokens=draft_tokens,
        acceptance=acceptance,
    )


def _write(summary: dict[str, Any], folder: Path) -> None:
    from rainshadow.porting.output import staged
    from rainshadow.report.exports import vllm
    from rainshadow.report.serving_plans import serving_page

    with staged(folder) as scratch:
        (scratch / "summary.json").write_text(json.dumps(summary, indent=1), encoding="utf-8")
        (scratch / "report.html").write_text(serving_page(summary), encoding="utf-8")
        (scratch / vllm.FILE).write_text(vllm.export(summary["plans"][0]), encoding="utf-8")
