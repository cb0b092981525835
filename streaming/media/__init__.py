"""Playlists, segments, pictures and the files of orders."""
