"""Published results tables, searched for figures that contradict each other."""
