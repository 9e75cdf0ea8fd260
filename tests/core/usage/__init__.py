"""Token counts from what models return."""
