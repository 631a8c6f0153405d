"""Logits processors, by family: truncation, penalties, bias, limits."""
