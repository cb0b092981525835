"""The JSON for pages and other programs."""
