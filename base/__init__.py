"""What every package may lean on; it knows none of them."""
