"""The fault suite: real engines on a real replica set are killed, cut and confused, then a ledger is checked."""
