"""Calibration: fitted on validation by patient, judged by slope, reliability curve and expected calibration error."""
