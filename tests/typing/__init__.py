"""The typed surface, as both checkers see it."""
