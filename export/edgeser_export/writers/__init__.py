"""Writers of files that runtimes read: ONNX and TFLite, float32 and int8."""
