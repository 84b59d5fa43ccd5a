"""Utilities of all packages: errors, files, child processes, progress, and text from outside."""
