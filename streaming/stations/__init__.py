"""Stations and cameras: found, listed, and described."""
