"""The inputs of training on a board: recordings, distilled sets, their views, and the schedule of steps."""
