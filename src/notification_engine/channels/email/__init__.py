"""The e-mail channel and its providers."""
