"""Measurements: each prints ratios against a named peer or floor of the same run."""
