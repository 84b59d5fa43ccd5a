"""Utterance vectors instead of recordings: one vector a clip, computed elsewhere, and a small dense student."""
