"""Boxes of media: pure functions over bytes."""
