"""The terminal UI over the ledger."""
