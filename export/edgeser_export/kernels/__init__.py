"""Convolutions and their gradients from operators that every runtime has."""
