"""The worlds of tiles: Distracting Memory, Multi Doors Keys and Hidden Motion."""
