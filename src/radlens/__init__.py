"""Find out whether a vision-language model can be trusted on your own radiographs."""
