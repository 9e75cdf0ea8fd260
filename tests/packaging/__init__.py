"""Tests of what is built and installed, in fresh environments."""
