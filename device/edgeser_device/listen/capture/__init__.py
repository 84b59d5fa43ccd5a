"""Sound from a microphone: a bounded queue, two backends in a table, and what reopens a device that went away."""
