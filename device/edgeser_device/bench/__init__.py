"""Latency, memory and size of a model on this machine."""
