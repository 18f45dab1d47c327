"""From a notification to the message of one delivery."""
