"""IntelliBrowse Notification Engine."""
