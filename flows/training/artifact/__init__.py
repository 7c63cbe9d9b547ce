"""The file that the server reads: how a fitted model is written, and the formulas it states."""
