"""Evaluation: metrics, thresholds, separability and the tables made of them. Arrays in, tables out, never a model."""
