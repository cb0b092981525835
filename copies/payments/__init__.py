"""Ways to pay: a port, and one file for each provider."""
