"""What every answer needs, whatever it says."""
