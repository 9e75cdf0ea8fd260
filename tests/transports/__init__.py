"""The transports, the drivers' edges, and what the clients share."""
