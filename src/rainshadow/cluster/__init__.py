"""Many chips: how they are wired, what collectives cost on them, and one training step on all."""
