"""Logits processors, one family a file."""
