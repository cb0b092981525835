"""Orders of copies: from a quote to what is delivered, paid and told."""
