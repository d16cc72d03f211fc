"""Knows units: reads "2.9 TB/s" into SI, and prints SI for people. No other module converts."""

from __future__ import annotations

import math
import re

from rainshadow.errors import InputError

#: Unit -> (dimension, factor to SI). Decimal prefixes are powers of 1000, binary of 1024.
UNITS: dict[str, tuple[str, float]] = {
    "": ("count", 1.0),
    "%": ("count", 0.01),
    "count": ("count", 1.0),
    "ratio": ("count", 1.0),
    "s": ("s", 1.0),
    "ms": ("s", 1e-3),
    "us": ("s", 1e-6),
    "ns": ("s", 1e-9),
    "ps": ("s", 1e-12),
    "h": ("s", 3600.0),
    "Hz": ("Hz", 1.0),
    "kHz": ("Hz", 1e3),
    "MHz": ("Hz", 1e6),
    "GHz": ("Hz", 1e9),
    "W": ("W", 1.0),
    "kW": ("W", 1e3),
    "MW": ("W", 1e6),
    "GW": ("W", 1e9),
    "J": ("J", 1.0),
    "kWh": ("J", 3.6e6),
    "C": ("C", 1.0),
    "l/kWh": ("l/kWh", 1.0),
    "L/kWh": ("l/kWh", 1.0),
    "g/kWh": ("g/kWh", 1.0),
    "gCO2e/kWh": ("g/kWh", 1.0),
    "lb/MWh": ("g/kWh", 453.59237 / 1000),
    "USD": ("USD", 1.0),
    "USD/h": ("USD/h", 1.0),
    "USD/kWh": ("USD/kWh", 1.0),
    "USD/MWh": ("USD/kWh", 1e-3),
    "EUR/kWh": ("EUR/kWh", 1.0),
    "m": ("m", 1.0),
    "B/ns": ("B/s", 1e9),
}
for _prefix, _factor in (("", 1.0), ("k", 1e3), ("M", 1e6), ("G", 1e9), ("T", 1e12), ("P", 1e15)):
    UNITS[f"{_prefix}B"] = ("B", _factor)
    UNITS[f"{_prefix}B/s"] = ("B/s", _factor)
    UNITS[f"{_prefix}b/s"] = ("B/s", _factor / 8)
    UNITS[f"{_prefix}FLOPS"] = ("FLOPS", _factor)
for _prefix, _power in (("Ki", 1), ("Mi", 2), ("Gi", 3), ("Ti", 4)):
    UNITS[f"{_prefix}B"] = ("B", 1024.0**_power)
    UNITS[f"{_prefix}B/s"] = ("B/s", 1024.0**_power)

#: Commas only between groups of three digits, so that a decimal comma is refused, not misread.
_QUANTITY = re.compile(
    r"^\s*([-+]?(?:[0-9]{1,3}(?:,[0-9]{3})+|[0-9][0-9_]*)(?:\.[0-9]+)?(?:[eE][-+]?[0-9]+)?)"
    r"(?![0-9,.])\s*(.*?)\s*$"
)


def parse_quantity(text: str | float, dimension: str) -> float:
    """ "2.9 TB/s" -> 2.9e12 for dimension "B/s".

    Errors: `InputError` if the text is no quantity or of another dimension.
    """
    match = _QUANTITY.match(str(text))
    if match is None:
        raise InputError(
            f"{text!r} is not a quantity", allowed=f"a number and a unit of {dimension}"
        )
    number = float(match.group(1).replace(",", "").replace("_", ""))
    known = UNITS.get(match.group(2))
    if known is None or known[0] != dimension:
        units = ", ".join(unit or "(none)" for unit, (dim, _) in UNITS.items() if dim == dimension)
        raise InputError(
            f"{text!r} has unit {match.group(2)!r}", allowed=f"units of {dimension}: {units}"
        )
    return number * known[1]


def _digits(number: float) -> str:
    """Three significant digits, all digits before the point, never an exponent."""
    if number == 0 or not math.isfinite(number):
        return f"{number:g}"
    places = max(0, 2 - math.floor(math.log10(abs(number))))
    text = f"{number:.{places}f}"
    return text.rstrip("0").rstrip(".") if "." in text else text


def _scaled(value: float, unit: str, steps: list[tuple[float, str]]) -> str:
    """`value` in the largest step that leaves at least 1 after rounding to three digits."""
    rounded = abs(float(f"{value:.3g}"))
    factor, prefix = next((step for step in steps if rounded >= step[0]), steps[-1])
    if value == 0:
        factor, prefix = 1.0, ""
    return f"{_digits(value / factor)} {prefix}{unit}"


_DECIMAL = [(1e15, "P"), (1e12, "T"), (1e9, "G"), (1e6, "M"), (1e3, "k"), (1.0, "")]
_BINARY = [(1024.0**4, "Ti"), (1024.0**3, "Gi"), (1024.0**2, "Mi"), (1024.0, "Ki"), (1.0, "")]
_LONG = [(86400.0, "days"), (3600.0, "h"), (60.0, "min")]
_SMALL = [(1.0, ""), (1e-3, "m"), (1e-6, "u"), (1e-9, "n"), (1e-12, "p")]


def format_bytes(value: float) -> str:
    """103079215104 -> "96 GiB"."""
    return _scaled(value, "B", _BINARY)


def format_rate(value: float) -> str:
    """Bytes per second: 2.9e12 -> "2.9 TB/s"."""
    return _scaled(value, "B/s", _DECIMAL)


def format_flops(value: float) -> str:
    """Floating-point operations: 6.7e14 -> "670 TFLOP"."""
    return _scaled(value, "FLOP", _DECIMAL)


def format_seconds(value: float) -> str:
    """2.897e-7 -> "290 ns"; above two minutes in min, h or days."""
    for seconds, unit in _LONG:
        if abs(value) >= 2 * seconds:
            return f"{_digits(value / seconds)} {unit}"
    return _scaled(value, "s", _SMALL)


def format_power(value: float) -> str:
    """500.0 -> "500 W"."""
    return _scaled(value, "W", _DECIMAL)


def format_hz(value: float) -> str:
    """2.4e9 -> "2.4 GHz"."""
    return _scaled(value, "Hz", _DECIMAL)


def format_count(value: float) -> str:
    """1234567 -> "1.23 M"."""
    return _scaled(value, "", _DECIMAL).rstrip()


def format_fraction(value: float) -> str:
    """0.8034 -> "80.3 %"."""
    return f"{_digits(value * 100)} %"


def format_usd(value: float) -> str:
    """0.01234 -> "0.0123 USD"; 1234.5 -> "1234 USD"."""
    return f"{_digits(value)} USD"
