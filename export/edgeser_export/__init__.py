"""Trained weights to files that runtimes read: ONNX, TFLite, float32 and int8, and the training step as one ONNX graph.

The package knows nothing of speech: it takes a small op graph with its weights, writes a file, loads the file again and
compares. Importing the package loads nothing; import the module that is needed.
"""
