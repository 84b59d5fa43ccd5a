"""Pretrained speech encoders as data: the table of names, fetching, and importers of their weights."""
