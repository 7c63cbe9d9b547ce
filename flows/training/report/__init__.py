"""Words and pictures about a run."""
