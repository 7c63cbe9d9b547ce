"""Many processes on one port: who keeps them running, and how they tell each other."""
