"""The files that are delivered: made while they are sent."""
