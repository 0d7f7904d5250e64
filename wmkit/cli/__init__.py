"""The command `wmkit`: one file per verb."""
