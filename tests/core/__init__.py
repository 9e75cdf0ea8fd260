"""Tests of the pure core: virtual time, no I/O."""
