"""The disk of a recorder: one writer for each camera, and many readers."""
