"""The API of the emulated service: a file for each resource, the ingest, and the ledger over all of them."""
