"""Every method of the resources: what it sends, how it reads the answer, what it refuses."""
