"""Stopping criteria, by family: length, tokens, text, thinking, confidence, custom."""
