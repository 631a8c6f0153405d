"""Utilities for minimum Bayes risk decoding: by what texts have in common, and by hidden states."""
