"""Whether a heatmap may be believed: checks, each with its figures, and the verdict that they allow."""
