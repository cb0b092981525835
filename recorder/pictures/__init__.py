"""The latest picture of each camera, made in a process of its own; knows nothing of recording."""
