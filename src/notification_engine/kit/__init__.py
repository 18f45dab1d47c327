"""Clock, ids, batching, logging: what knows no word of the field."""
