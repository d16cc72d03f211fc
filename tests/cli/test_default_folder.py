"""Where planners write when nobody says where."""

from __future__ import annotations

import pytest

from rainshadow.cli_options import default_folder


@pytest.mark.parametrize(
    ("model", "folder"),
    [
        ("llama-3.1-70b", "plan-llama-3.1-70b"),
        ("llama-3.1-8b", "plan-llama-3.1-8b"),
        ("models/mine.v2.toml", "plan-mine.v2"),
        ("hub/Llama-3.1/config.json", "plan-Llama-3.1"),
        ("config.json", "plan-config"),
        ("models/mine.py:make", "plan-mine.make"),
        ("", "plan-none"),
    ],
)
def test_models_have_folders_of_their_own(model, folder):
    assert default_folder("plan", model).name == folder
