"""What the emulated service knows: its ledger, its catalogue, and its prices."""
