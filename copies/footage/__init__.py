"""What exists of a camera in a stretch of time, and the plan of a file from it."""
