"""The fuzz targets without the fuzzer: their committed inputs, what they found, and that they can find."""
