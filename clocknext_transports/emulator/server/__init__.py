"""How the emulated service is reached: HTTP, routes, envelopes, faults and scripts."""
