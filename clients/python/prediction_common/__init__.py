"""What training, the server and the client have in common, without gRPC.

The supervisor of the server's processes uses it too, and saves the memory that gRPC takes.
"""
