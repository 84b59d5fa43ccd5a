"""What training on a board reads: recordings, distilled sets, their views, and the schedule of steps."""
