"""The verbs of the command line, in one module for the host's and one for the board's."""
