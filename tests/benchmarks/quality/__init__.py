"""`make bench-quality`: how good the models are, beside those of other tools."""
