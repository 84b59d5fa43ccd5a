"""Live recognition: a source of sound, the streaming front-end, the model every half second, sinks for the events."""
