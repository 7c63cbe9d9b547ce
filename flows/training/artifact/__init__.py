"""The file that the server reads: writes fitted models, and evaluates the formulas it states."""
