"""Distillation: one module a method, one table that lists them, one loop that they share."""
