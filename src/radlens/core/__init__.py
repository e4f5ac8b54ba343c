"""The values that rooms exchange, the registry, the store. Imports no room."""
