"""The programs of the board: the front-end, the reader of kits, training, inference, benchmark and the listening loop.

It needs numpy and one runtime (ONNX Runtime or LiteRT), never torch or librosa. Importing the package loads nothing;
import the module that is needed.
"""
