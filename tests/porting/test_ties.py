"""The table of ties is complete and tells whose line a call came from."""

from __future__ import annotations

import contextlib
import sys

import pytest

from rainshadow.errors import NotModelled
from rainshadow.porting import ties
from rainshadow.porting.ties import TieLog, code_owner, load_rules, rule_for, user_line


def test_every_rule_is_filled_in_and_its_pattern_is_used_once() -> None:
    rules = load_rules()
    assert len({rule.api for rule in rules}) == len(rules)
    for rule in rules:
        assert rule.kind and rule.api and rule.resolution and rule.source, rule


def test_every_name_without_a_pattern_finds_its_own_rule() -> None:
    """No pattern further up takes what a later row says more exactly."""
    for rule in load_rules():
        if "*" not in rule.api:
            assert rule_for(rule.api) == rule


def test_an_unknown_call_names_the_table() -> None:
    with pytest.raises(NotModelled, match=r"ties\.csv"):
        rule_for("torch.cuda_next.warp_speed")


def test_owners() -> None:
    assert code_owner(__file__) == "user"
    assert code_owner(ties.__file__) == "rainshadow"
    assert code_owner(contextlib.__file__) == "interpreter"
    assert code_owner(pytest.__file__) == "package"
    assert code_owner("<frozen runpy>") == "interpreter"


def test_frames_of_pytorch_hide_the_user() -> None:
    torch = pytest.importorskip("torch")
    seen = []

    class Probe(torch.nn.Module):
        def forward(self) -> None:
            seen.append(user_line(sys._getframe().f_back))
            seen.append(user_line(sys._getframe().f_back, ("torch/nn/modules/",)))

    Probe()()
    assert seen[0] is None, "called by PyTorch, not by the user"
    assert seen[1] is not None and seen[1].text == "Probe()()"


def test_uses_are_counted_by_line_and_api() -> None:
    log = TieLog()

    def replacement(api: str) -> None:
        assert log.met(api)

    for _ in range(2):
        replacement("Tensor.cuda")
    replacement("torch.cuda.synchronize")
    assert [(tie.api, tie.count) for tie in log.ties()] == [
        ("Tensor.cuda", 2),
        ("torch.cuda.synchronize", 1),
    ]
    assert log.ties()[0].where.text == 'replacement("Tensor.cuda")'
