"""Delivery Daemon: one loop a file."""
