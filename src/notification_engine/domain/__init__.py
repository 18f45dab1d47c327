"""Pure values and transitions."""
