"""Pretrained speech encoders as data: which there are, how they are fetched, and how their weights become our op graph."""
