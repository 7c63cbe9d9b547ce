"""The model registry from the server's side: fetching versions, and storing them on disk."""
