"""Sound from a microphone: a bounded queue, two backends in a table, and sources that reopen a device."""
