"""The worlds of tiles: Distracting Memory and Multi Doors Keys."""
