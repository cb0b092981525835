"""What operators ask of a web process."""
