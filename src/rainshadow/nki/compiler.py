"""The `nki.compiler` names: hints to AWS's compiler that change nothing a kernel computes."""
