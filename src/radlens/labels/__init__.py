"""Labelers: from report to labels. One file each."""
