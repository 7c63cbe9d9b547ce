"""Counts answered rows in the bins of the model's reference, off the callers' path."""
