"""The prediction log: an observer that writes what callers were answered to files."""
