"""Kits: reading archives without trust, the manifest, golden values and signatures."""
