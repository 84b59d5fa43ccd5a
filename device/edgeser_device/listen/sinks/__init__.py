"""What is done with events: one module a sink, each a small consumer that never makes the microphone wait."""
