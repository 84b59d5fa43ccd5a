"""The model folder: reading it, predicting with it, and writing its files again."""
