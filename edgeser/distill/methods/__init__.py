"""The methods of distillation, one module each; :mod:`edgeser.distill.registry` lists them."""
