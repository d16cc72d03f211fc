"""Searching layouts: the complete space, the exact optimum in it, and who else comes close."""
