"""Loaders, model cards, encoding, and the embedded model."""
