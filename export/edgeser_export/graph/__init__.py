"""The op graph of a student, its reference in numpy, and its transformations."""
