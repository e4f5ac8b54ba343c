"""The stages of a study: each joins one room to the run folder. Only `study.py` puts them in order."""
