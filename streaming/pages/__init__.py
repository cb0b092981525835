"""The HTML for people."""
