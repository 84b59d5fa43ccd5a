"""A training step of a student as one ONNX file."""
