"""Tokens, signatures of callbacks, field encryption."""
