"""Kits for boards: packing, the card, targets, wheels, keys, and deployment over ssh."""
