"""What became true of predictions: the log of the server, joined with outcomes."""
