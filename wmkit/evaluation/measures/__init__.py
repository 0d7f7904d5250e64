"""The measures of wmkit: importing this registers them, in the order of tables."""
