"""One training step of the example: functional simulation against eager CPU PyTorch.

Aim: at most 3 times eager's time. Run: python benchmarks/step.py

Each run has the machine to itself. Then one more run, with clocks around the layers, says where
the simulated step's time goes.
"""

from __future__ import annotations

import statistics
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable
from pathlib import Path
from typing import Any

from rainshadow.porting.launch import ScriptRun
from rainshadow.porting.record import RunRecord

EXAMPLE = Path(__file__).resolve().parent.parent / "examples" / "train_gpt_cuda.py"
#: The first steps compile.
WARM_UP = 3


def order(target: str, precision: str, folder: Path) -> dict[str, Any]:
    return {
        "script": str(EXAMPLE),
        "arguments": [],
        "target": target,
        "precision": precision,
        "folder": str(folder / f"{target}-{precision}"),
        "seed": 0,
    }


def run(target: str, precision: str, folder: Path) -> RunRecord:
    """The example in a process of its own."""
    log = folder / f"{target}-{precision}.log"
    with log.open("w") as stream:
        record = ScriptRun(order(target, precision, folder), output=stream).wait()
    if record.partial:
        sys.exit(log.read_text())
    return record


class Clocks:
    """Time spent in some functions, each without what it spends in the others."""

    def __init__(self) -> None:
        self.total_s: dict[str, float] = defaultdict(float)
        self._inner_s = [0.0]

    def around(self, owner: Any, name: str, label: str) -> None:
        """Replace `owner.name` by the same with a clock."""
        setattr(owner, name, self.clocked(getattr(owner, name), label))

    def clocked(self, function: Callable[..., Any], label: str) -> Callable[..., Any]:
        def call(*args: Any, **kwargs: Any) -> Any:
            began = time.perf_counter()
            self._inner_s.append(0.0)
            try:
                return function(*args, **kwargs)
            finally:
                spent = time.perf_counter() - began
                self.total_s[label] += spent - self._inner_s.pop()
                self._inner_s[-1] += spent

        return call


def breakdown(folder: Path) -> dict[str, float]:
    """Seconds per layer over all steps but those that compile."""
    import rainshadow.nki.isa  # noqa: F401 - registers every instruction
    from rainshadow.compiler.session import Session
    from rainshadow.isa.instruction import ACCESSORS
    from rainshadow.porting import child
    from rainshadow.sim import fast
    from rainshadow.sim.recorder import Recorder

    clocks = Clocks()
    clocks.around(Session, "launch", "launching: arguments in and out")
    clocks.around(Recorder, "issue", "checking and noting instructions")
    for kind in ACCESSORS:
        clocks.around(kind, "meaning", "arithmetic")
    paths = {kind: clocks.clocked(path, "arithmetic") for kind, path in fast.fast_paths().items()}
    fast._torch_paths = lambda: paths
    steps = []
    original = Session.mark

    def mark(self: Session, name: str) -> None:
        if name == "optimizer step end":
            steps.append((time.perf_counter(), dict(clocks.total_s)))
        original(self, name)

    Session.mark = mark  # type: ignore[method-assign]
    fields = order("rainshadow", "bf16", folder / "clocked")
    child.run(child.Order(**{**fields, "arguments": ()}))
    (begin, before), (end, after) = steps[WARM_UP], steps[-1]
    times = {name: (after[name] - before.get(name, 0.0)) for name in after}
    times["torch, autograd, the front end"] = end - begin - sum(times.values())
    return {name: value / (end - begin) for name, value in times.items()}


def main() -> None:
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        medians = {}
        for target, precision in (("cpu", "fp32"), ("rainshadow", "bf16"), ("rainshadow", "fp32")):
            record = run(target, precision, folder)
            medians[target, precision] = statistics.median(record.step_wall_s[WARM_UP:])
        eager_s = medians["cpu", "fp32"]
        for (target, precision), median_s in medians.items():
            print(f"{target:<11} {precision}: {median_s * 1e3:7.1f} ms per step, "
                  f"{median_s / eager_s:.1f} x eager CPU")  # fmt: skip
        for name, share in sorted(breakdown(folder).items(), key=lambda item: -item[1]):
            print(f"  {share:6.1%}  {name}")


if __name__ == "__main__":
    main()
