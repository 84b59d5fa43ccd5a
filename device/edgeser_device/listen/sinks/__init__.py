"""Consumers of events: one module a sink, none of which ever makes the microphone wait."""
