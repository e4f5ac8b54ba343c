"""Training of image encoders: the engine behind every setting that changes the encoder."""
