"""One file or folder a channel; a channel answers an outcome and never touches state."""
