"""The installation on a board: two slots, and whether the machine is fit."""
