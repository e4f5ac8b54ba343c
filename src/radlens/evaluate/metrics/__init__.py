"""One file a family of metrics; each is found by the registry and becomes a column of the tables."""
