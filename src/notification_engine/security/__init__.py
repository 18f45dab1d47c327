"""Tokens and field encryption."""
