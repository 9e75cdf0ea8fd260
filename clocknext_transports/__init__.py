"""Clients and transports of the ClockNext SDK."""
