"""Trains prediction heads for models that have none: what `nextn train` does."""
