"""The emulator's servers: HTTP, faults, the read-back, and answers from a list."""
