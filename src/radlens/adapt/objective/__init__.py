"""Arithmetic of the training losses: what `radlens.adapt.losses` lists by name."""
