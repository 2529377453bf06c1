"""The recipe that made the bundled networks: degradations, training loop, evaluation, export."""
