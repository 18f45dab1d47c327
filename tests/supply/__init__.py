"""What the engine is made of: locked packages, their licences and known faults, secrets in files, dangerous calls."""
