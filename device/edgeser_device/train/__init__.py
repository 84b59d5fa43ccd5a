"""Training from a kit with onnxruntime alone."""
