"""Pictures and words about a run."""
