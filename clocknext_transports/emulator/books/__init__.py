"""The state of the emulated service: what it sells, what was recorded, and the prices."""
