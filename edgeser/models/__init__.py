"""Students and experts: their op graphs in torch, and how they are trained."""
