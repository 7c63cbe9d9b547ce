"""A second model that answers a share of the calls, and is judged by its answers."""
