"""Everything on the mail path: octets, protocols, the ledger, the command line."""
