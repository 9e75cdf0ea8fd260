"""What a process does to a client: forks, the interpreter's exit, logging."""
