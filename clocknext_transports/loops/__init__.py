"""What the clients of all event loops share."""
