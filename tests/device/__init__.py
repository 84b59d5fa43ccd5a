"""A package, not a namespace: ``benchmarks/device.py`` is on the path of imports too."""
