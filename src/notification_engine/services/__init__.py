"""Service Layer: the use cases, and in ports.py the Protocols that they need."""
