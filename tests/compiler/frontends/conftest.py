"""Set-up of the PyTorch front end's tests: a session, the device, and one small GPT."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch
from torch_case import Case

from rainshadow.compiler.frontends.torch.device import register_device
from rainshadow.compiler.session import Session, SessionOptions

torch.set_num_threads(1)
register_device()


@pytest.fixture
def session() -> Iterator[Session]:
    """A fresh float32 session."""
    with Session("trainium2", SessionOptions(precision="fp32")) as opened:
        yield opened


@pytest.fixture
def bf16_session() -> Iterator[Session]:
    """A fresh session that leaves autocast to the script."""
    with Session("trainium2", SessionOptions(precision="bf16")) as opened:
        yield opened


@pytest.fixture
def case() -> Case:
    return Case()
