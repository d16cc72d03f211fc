"""The step that is kept is one that most steps are like."""

from __future__ import annotations

import pytest

pytest.importorskip("torch")

from rainshadow.compiler.session import KernelRecord, Launch, Session
from rainshadow.porting.on_chip import SessionListener, device_facts, steady_step


def session_of(*steps: str) -> Session:
    """A session whose step i launched the kernels named by the letters of steps[i]."""
    session = Session("trainium2")
    names = sorted(set("".join(steps)))
    kernels = {name: KernelRecord(i, name, None) for i, name in enumerate(names)}  # type: ignore[arg-type]
    for step in steps:
        for name in step:
            session.launches.append(Launch(kernels[name], "other", session.step))
        session.mark("optimizer step end")
    return session


@pytest.mark.parametrize(
    ("steps", "chosen"),
    [
        ([], None),
        (["abc"], 0),
        (["xabc", "abc"], 1),
        (["abc", "abc", "abc", "eeabc"], 2),
        (["abc", "ab", "ac"], 2),
        (["abc", "eabc", "abc", "eabc", "abc"], 4),
    ],
)
def test_steady_step(steps: list[str], chosen: int | None) -> None:
    assert steady_step(session_of(*steps)) == chosen


def test_a_quiet_read_counts_as_no_transfer() -> None:
    session = session_of()
    session.transfer("device to host", 4)
    listener = SessionListener(session)
    with listener.quiet():
        session.transfer("device to host", 4)
        session.transfer("fill", 8)
    assert listener.transfers() == {"device to host": (1, 4)}


def test_a_script_is_told_of_one_cores_share_of_the_memory() -> None:
    session = session_of()
    facts = device_facts(session)
    cores = int(session.chip.core.count.value)
    assert facts.memory_bytes * cores == int(session.chip.hbm.capacity.value)
    session.allocate(1024)
    assert (facts.live_bytes(), facts.peak_bytes()) == (1024, 1024)
