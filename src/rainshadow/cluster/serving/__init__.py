"""Answering requests with a trained model: latency, memory, batching, and what meets an SLA."""
