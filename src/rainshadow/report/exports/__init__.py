"""Plans in the words of the programs that carry them out: one file per program.

Each file has `KIND`, what it plans, `FILE`, the name to write, and `export`, its text: of a
training plan and its model, or of a deployment; the folder is the registry. What a program cannot
be told is `NotModelled`.
"""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Mapping
from typing import Any

from rainshadow.cluster.model import TransformerModel
from rainshadow.errors import NotModelled


def export_all(
    plan: Mapping[str, Any], model: TransformerModel
) -> tuple[dict[str, str], list[str]]:
    """(file name -> text, why each of the other programs cannot carry the plan out)."""
    texts, refused = {}, []
    for found in sorted(pkgutil.iter_modules(__path__), key=lambda entry: entry.name):
        program = importlib.import_module(f"{__name__}.{found.name}")
        if program.KIND != "training":
            continue
        try:
            texts[program.FILE] = program.export(plan, model)
        except NotModelled as error:
            refused.append(f"{program.FILE}: {error.what}")
    return texts, refused
