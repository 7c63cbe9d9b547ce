"""The model registry, as the server sees it: what is fetched, and how it is kept."""
