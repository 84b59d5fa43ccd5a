"""Training further on the owner's own clips, with the distilled set as rehearsal."""
