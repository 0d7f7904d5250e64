"""A scene in MuJoCo: Memory Maze's own physics and pictures."""
