"""From the spool into archives, and off both when the time has come."""
