"""Tests of the Twisted driver in docs/examples, which docs/writing-a-driver.md explains."""
