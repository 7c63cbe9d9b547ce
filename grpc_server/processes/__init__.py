"""Several processes on one port: the supervisor, the processes, and their messages and metrics."""
