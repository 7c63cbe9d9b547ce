"""The server beside bare grpcio and beside other model servers."""
