"""Integrations, with the real packages, against the model server: judged on the emulator's ledger."""
