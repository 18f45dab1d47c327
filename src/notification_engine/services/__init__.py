"""Service Layer: the use cases, and in ports the Protocols that they need."""
