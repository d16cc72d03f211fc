"""Mutation evidence for `rainshadow check`: edits of correct kernels, and how many it reports.

Kernels of tests/sim/hazards and, where RAINSHADOW_CHECKOUT_AWS_NEURON_SDK, ..._NKI_SAMPLES and
..._NKI_LIBRARY name checkouts, AWS's. What an edit and its effect are:
tests/sim/hazards/hazard_mutations.py. Aims: nothing found in the originals, at least 99 % of the
effective edits reported. Run: python benchmarks/hazard_mutations.py [--seed N]
"""

from __future__ import annotations

import argparse
import os
import sys
from collections import Counter, defaultdict
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from rainshadow.machine import load_chip

sys.path.insert(0, str(Path(__file__).parent.parent / "tests" / "sim" / "hazards"))

from hazard_cases import OF_CHECKOUTS, own_cases
from hazard_mutations import Case, Outcome, check, edits_of, judge, results

_LEAST = 0.99


def main() -> int:
    parser = argparse.ArgumentParser()
    parser.add_argument("--seed", type=int, default=0)
    seed = parser.parse_args().seed
    chip = load_chip("trainium2")
    cases = own_cases()
    for variable, make in OF_CHECKOUTS.items():
        if variable in os.environ:
            cases += make(os.environ[variable])
        else:
            print(f"{variable} is not set: without these kernels", file=sys.stderr)
    outcomes: list[Outcome] = []
    on_originals = 0
    for case in cases:
        found = check(case, chip)
        on_originals += len(found)
        original = results(case, chip)
        rng = np.random.default_rng(seed)
        mine = [judge(case, edit, original, chip) for edit in edits_of(case, chip, rng)]
        _print_case(case, mine, len(found))
        outcomes += mine
    print()
    share = _print_kinds(outcomes)
    origins = Counter(case.origin for case in cases)
    print(f"\n{len(cases)} kernels ({', '.join(f'{n} {name}' for name, n in origins.items())}), "
          f"{on_originals} findings in the originals, seed {seed}")  # fmt: skip
    return 0 if share >= _LEAST and not on_originals else 1


def _print_case(case: Case, outcomes: Sequence[Outcome], findings: int) -> None:
    effective = [one for one in outcomes if one.effect]
    missed = [one for one in effective if not one.findings]
    print(f"{case.origin:<16}{case.name:<34}{len(effective):>4} effective of {len(outcomes):>3}, "
          f"{len(missed)} missed; {findings} findings in the original", flush=True)  # fmt: skip
    for one in missed:
        print(f"    missed: {one.edit.kind} {one.edit.what} at {one.edit.where}: {one.effect}")


def _print_kinds(outcomes: Sequence[Outcome]) -> float:
    """The table by kind of edit; the share of effective edits that were reported."""
    print("| edit | breaks a rule | changes results | reported | no effect | of these reported |")
    print("|---|---|---|---|---|---|")
    rows: dict[str, Counter[str]] = defaultdict(Counter)
    for one in outcomes:
        for kind in (one.edit.kind, "all"):
            rows[kind][_column(one)] += 1
            if one.findings:
                rows[kind]["reported" if one.effect else "extra"] += 1
    total = rows.pop("all")
    for kind, row in [*sorted(rows.items()), ("all", total)]:
        print(f"| {kind} | {row['rule']} | {row['results']} | {row['reported']} | {row['inert']} | "
              f"{row['extra']} |")  # fmt: skip
    share = total["reported"] / (total["rule"] + total["results"])
    print(f"\nreported: {share:.2%} of the effective edits; {total['none']} edits left no kernel")
    return share


def _column(outcome: Outcome) -> str:
    if outcome.effect is None:
        return "none"
    if not outcome.effect:
        return "inert"
    return "rule" if outcome.effect.startswith("breaks a rule") else "results"


if __name__ == "__main__":
    sys.exit(main())
