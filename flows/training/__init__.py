"""From a table to a registered model, in plain Python; the flow decides when each part runs."""
