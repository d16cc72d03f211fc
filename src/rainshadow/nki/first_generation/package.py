"""The name `neuronxcc`, which holds the first generation of NKI; nothing of its compiler."""
