"""Data sets, image decoding, splits, and the phantom generator."""
