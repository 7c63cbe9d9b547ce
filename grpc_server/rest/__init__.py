"""REST v2 of the Open Inference Protocol, on the HTTP port."""
