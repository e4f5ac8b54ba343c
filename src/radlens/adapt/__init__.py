"""Settings: ways of turning an encoder into a classifier. One file each."""
