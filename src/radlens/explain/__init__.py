"""Saliency methods, localisation, annotation formats."""
