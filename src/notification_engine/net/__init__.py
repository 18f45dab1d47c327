"""The guarded way out: sessions, address checks, deadlines."""
