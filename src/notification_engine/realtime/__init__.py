"""Who is connected, and the bus that tells them."""
