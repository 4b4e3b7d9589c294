"""Towers side by side on the same rows, seeds and tuning budget."""
