"""The `nki.typing` names."""
